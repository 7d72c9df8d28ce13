"""From a pretrained network to a classifier: the head is solved, the network is trained from there, the better one stays."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import keras
import numpy as np

import keras_cnn as kc
from keras_cnn import keras_internals, surgery
from keras_cnn.builder import attach
from keras_cnn.training import calibration, fit_linear_probe
from pipelines import augment, settings
from pipelines.augment import cross_validated, mirroring
from pipelines.datasets import image_files
from pipelines.datasets.array_cache import digest
from pipelines.datasets.feature_batches import CachedBatches, indicators
from pipelines.datasets.image_batches import Batches
from pipelines.progress import EpochBar
from pipelines.training import feature_extractor
from pipelines.training.fingerprints import network_digest
from pipelines.training.fitting import Task, fit
from pipelines.training.task import measure, objective_of

SOLVED, TUNED = "solved head", "fine-tuned"
IN_SHEET = 6


class Learning:
    """A network that learns from a catalog.

    Args:
        network: `keras_cnn.Backbone`; its model becomes a part of `model`.
        catalog: `Catalog` with splits.
        images: `pipelines.doctor.Images` of the catalog.
        chosen: `Settings`.
        cache: A `Cache`.
        steps: `Steps`, to show progress.

    Attributes:
        network, catalog, images: As given.
        description: All that decides the outcome, as plain values by name.
        model: The classifier.
        chosen: The settings, with what was decided on the way.
        objective: What is learned, from `pipelines.training.task`.
        validation: Its scores on the validation images, of the solved head and of the fine-tuned network.
        selected: Which of the two the model is.
        history: A dict an epoch.
        restarts: What divergence there was, `pipelines.training.divergence.Restart`s.
        sheet: A picture of how training images were varied, `(height, width, 3)` uint8, or None.
    """

    def __init__(self, network, catalog, images, chosen, cache, steps):
        keras.utils.set_random_seed(chosen.seed)
        self.chosen, self.validation, self.history, self.sheet = chosen, {}, [], None
        self.restarts, self.selected = (), SOLVED
        self.network, self.catalog, self.images, self._cache, self._steps = network, catalog, images, cache, steps
        self.objective = objective_of(catalog)
        self._classes = self.objective.classes
        self.model = attach(network.model, self.objective.head(chosen.dropout))
        # What the network was before anything was trained: `train` may change it in place.
        self.description = {
            **chosen.to_dict(),
            "backbone": str(network.source),
            "weights": network_digest(network.model),
            "images": digest(images.key, catalog.labels, catalog.splits),
        }

    def solve(self) -> None:
        """Put the solved head into the model."""
        front, self._rest = surgery.split(self.model, self.chosen.boundary)
        middle, tail = surgery.split(self._rest, "pool") if self.chosen.boundary != "pool" else (None, self._rest)
        varied = not self.chosen.on_pictures and self.chosen.augmentation != "none"
        views = self.chosen.views if varied else 1
        learned, tested = views * len(self._rows("train")) + len(self._rows("validation")), len(self._rows("test"))
        self._front = feature_extractor.Front(front, self.network, self._cache, learned)
        self._exact_front = feature_extractor.Front(front, self.network, self._cache, tested, exact=True)
        self._run_middle = (
            feature_extractor.inference(middle, learned, feature_extractor.precision(learned)) if middle else None
        )
        self._run_tail = feature_extractor.inference(tail)
        if varied:
            self._limit_views()
        self._views = [self._activations("train", "plain")]
        self._held_out = self._activations("validation", "plain")
        self._pooled_held_out = self._pooled(self._held_out)
        self._solve()
        if self.chosen.mirror is None:
            self.chosen = replace(self.chosen, mirror=self._mirror_is_harmless())
            more = self.chosen.mirror and self.chosen.trained == "last"
        else:
            more = self.chosen.mirror and self.chosen.gentle
        if varied:
            self._views += self._varied()
        elif more:
            self._views.append(self._activations("train", "mirrored"))
        if len(self._views) > 1 and self.chosen.gentle:  # where more is trained, the head is where it begins
            self._solve()
        if self.chosen.trained == "head":
            self._solve_on_all()

    def train(self, folder, callbacks=()) -> None:
        """Train the network from the solved head on; keep it only where validation says that it is clearly better.

        Otherwise the model is the solved head again, and that learns from the validation images too.

        Args:
            folder: Where the state is kept; an interrupted training goes on from there.
            callbacks: Keras callbacks.
        """
        before = self.model.get_weights()
        prepare = self._on_pictures if self.chosen.on_pictures else self._on_activations
        model, batches, validation, named = prepare()
        with (
            self._steps.step("Fine-tuning", self.chosen.epochs * batches.steps) as advance,
            kc.check_frozen(self.model),
            named,
            kc.training.mixed_precision(self.network.model) if self.chosen.mixed_precision else nullcontext(),
        ):
            start, truth = self.validation[SOLVED], self.truth("validation")
            chance = self.objective.chance(self.truth("train"), truth)
            task = Task(self.objective, start, chance, len(truth), self._steps.report)
            watching = [EpochBar(advance, measure(start)), *callbacks]
            found = fit(model, batches, validation, task, self.chosen, folder, watching)
        self.history, self.restarts, self.validation[TUNED] = found.history, found.restarts, found.best
        if self.objective.clearly_better(found.best, start, self._validation_scores, truth):
            self.selected = TUNED
        else:
            self.model.set_weights(before)
            self._solve_on_all()

    def scores(self, split, advance=lambda count: None) -> np.ndarray:
        """What the model, trained by now, gives for the images of a split: `(images, classes)`; for test all in float32.

        For validation what it gave before it learned from them, where that is the solved head.
        """
        if split == "validation" and self.selected == SOLVED:  # by now the head has learned from them
            return self._validation_scores
        if not self.chosen.on_pictures:
            activations = self._held_out  # they are there, as exact as is needed to choose by
            if split != "validation":
                activations = self._exact_front.activations(self._batches(split), self._key(split), "plain", advance)
            return feature_extractor.in_batches(feature_extractor.inference(self._rest, len(activations)), activations)
        run, found = feature_extractor.inference(self.model, len(self._rows(split))), []
        for batch, _ in self._batches(split)():
            found.append(run(batch))
            advance(len(batch))
        return np.concatenate(found)

    def truth(self, split) -> np.ndarray:
        """The class numbers of a split, `(images,)`; with several labels an image 0 and 1, `(images, classes)`."""
        return self.catalog.targets(self._rows(split))

    def _rows(self, split):
        return self.catalog.used(split)

    def _batches(self, split):
        """The images of a split as they are, in order."""
        positions, size = self.images.positions(self._rows(split)), self.network.preprocessing.size
        return Batches(
            self.images.source,
            self.truth(split),
            size,
            feature_extractor.BATCH_SIZE,
            classes=self._classes,
            shuffle=False,
            rows=positions,
        )

    def _activations(self, split, view):
        mirrored = ", mirrored" if view == "mirrored" else ""
        with self._steps.step(f"Features of {split}{mirrored}", len(self._rows(split))) as advance:
            return self._front.activations(self._batches(split), self._key(split), view, advance)

    def _varied(self):
        """Activations of random views of the training images."""
        augmentation, views = replace(self._augmentation(), mixup=0.0, cutmix=0.0), self.chosen.views - 1
        batches = self._varied_batches(augmentation, feature_extractor.BATCH_SIZE, shuffle=False)
        larger = image_files.Files(*self._larger(augmentation)).key
        key = digest(larger, augmentation.to_dict(), image_files.code(augment), self.chosen.seed)
        with self._steps.step("Features of train, varied", views * batches.examples) as advance, _named(batches.source):
            return [self._front.activations(batches, key, "plain", advance, epoch) for epoch in range(1, 1 + views)]

    def _limit_views(self):
        """More views than the cache can keep would take each other's place in it."""
        most = max(settings.FEWEST_VIEWS, self._front.views_that_fit(len(self._rows("train"))))
        self.chosen = replace(self.chosen, views=min(self.chosen.views, most))

    def _augmentation(self):
        return augment.preset(self.chosen.augmentation, mirror=self.chosen.mirror)

    def _key(self, split):
        return digest(self.images.key, self.images.positions(self._rows(split)).tolist())

    def _solve(self):
        with self._steps.step("Solving the head"):
            held_out, truth = self._pooled_held_out, self.truth("validation")
            self._put(fit_linear_probe(self._learned(), self._labels(), self._classes, held_out, truth))
            self._validation_scores = feature_extractor.in_batches(self._run_tail, held_out)
            self.validation[SOLVED] = self.objective.score(self._validation_scores, truth)

    def _solve_on_all(self):
        """Once all is decided by the validation images, the head learns from them too: with few images that is many."""
        with self._steps.step("Solving the head"):
            learned = np.concatenate([self._learned(), self._pooled_held_out])
            labels = np.concatenate([self._labels(), self.truth("validation")])
            penalties = (self._head.l2,)
            self._put(fit_linear_probe(learned, labels, self._classes, learned, labels, penalties, start=self._head))

    def _learned(self):
        return np.concatenate([self._pooled(view) for view in self._views])

    def _labels(self):
        return np.concatenate([self.truth("train")] * len(self._views))

    def _put(self, head):
        self._head = head
        self._rest.get_layer("logits").set_weights([head.kernel, head.bias])

    def _pooled(self, activations):
        """What the solved head is computed from, in float32."""
        if self.chosen.boundary == "pool":
            return activations.astype("float32")
        return feature_extractor.in_batches(self._run_middle, activations)

    def _mirror_is_harmless(self):
        """As a head says that has seen no flipped images: on the validation images, or by cross-validation where they are few.

        So few images that even that would be chance are not flipped: two classes may differ by left and right alone.
        """
        truth, learned = self.truth("validation"), self.truth("train")
        if len(truth) + len(learned) < calibration.MIN_EXAMPLES:
            return False
        flipped = self._pooled(self._activations("validation", "mirrored"))
        if len(truth) >= calibration.MIN_EXAMPLES:
            views = (self._pooled_held_out, flipped)
            return mirroring(*(feature_extractor.in_batches(self._run_tail, view) for view in views), truth).harmless
        plain = np.concatenate([self._pooled(self._views[0]), self._pooled_held_out])
        flipped = np.concatenate([self._pooled(self._activations("train", "mirrored")), flipped])
        return cross_validated(plain, flipped, np.concatenate([learned, truth]), self._classes, self._head.l2).harmless

    def _on_activations(self):
        """The later stages, and batches of what goes into them."""
        self._unfreeze(self.network.stages[-1].name if self.chosen.trained == "last" else self.chosen.trained)
        targets = indicators(self.truth("train"), self._classes)
        batches = CachedBatches(self._views, targets, self.chosen.batch_size, self.chosen.seed)
        truth = indicators(self.truth("validation"), self._classes)
        validation = CachedBatches([self._held_out], truth, feature_extractor.BATCH_SIZE, self.chosen.seed)(0)
        return _to_train(self._rest), batches, validation, nullcontext()

    def _on_pictures(self):
        """The network, and batches of varied pictures."""
        self._unfreeze(None)
        batches = self._varied_batches(self._augmentation(), self.chosen.batch_size)
        return _to_train(self.model), batches, self._batches("validation")(), _named(batches.source)

    def _unfreeze(self, first):
        kc.freeze(self.model)
        kc.unfreeze(self.model, starting_at=first)
        for layer in keras_internals.sublayers(self.model, include_self=False):
            if isinstance(layer, keras.layers.DepthwiseConv2D) and not self.chosen.depthwise:
                layer.trainable = False

    def _varied_batches(self, augmentation, batch_size, shuffle=True):
        """The training images, varied; `sheet` shows how."""
        paths, larger = self._larger(augmentation)
        with self._steps.step("Reading larger images", len(paths)) as advance:
            source = image_files.stored(paths, larger, self._cache, advance)
        size, seed = self.network.preprocessing.size, self.chosen.seed
        if not isinstance(source, image_files.Files):
            self.sheet = augment.contact_sheet(source[:: -(-len(paths) // IN_SHEET)], size, augmentation, seed)
        return Batches(
            source,
            self.truth("train"),
            size,
            batch_size,
            classes=self._classes,
            augmentation=augmentation,
            seed=seed,
            shuffle=shuffle,
        )

    def _larger(self, augmentation):
        """The training images' files, and how they are read to cut views from."""
        preprocessing = self.network.preprocessing
        larger = replace(preprocessing, size=augmentation.stored_size(preprocessing.size), crop_fraction=1.0)
        return [self.catalog.paths[row] for row in self._rows("train")], larger


def _to_train(model):
    """Another model of the same weights: the one that is kept stays free of optimizer, loss and metrics."""
    return attach(surgery.fold_frozen(model), lambda scores: scores)


def _named(source):
    """Within it, an error in reading a file says which."""
    return source.named_in_errors() if isinstance(source, image_files.Files) else nullcontext()
