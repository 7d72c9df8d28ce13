"""The bar of the whole job moves by what was expected of each phase."""

from pipelines.progress import Progress


def job_bar(phases):
    return phases._bars.tasks[phases._job]


def test_the_whole_job_is_done_when_its_phases_are():
    phases = Progress(visible=False)
    phases.expect({"a": 10.0, "b": 30.0})
    with phases.phase("a", 4) as advance:
        advance(1)
        assert job_bar(phases).completed == 2.5
        advance(1)
    assert job_bar(phases).completed == 10  # what was not counted inside is counted at the end
    for name, total in (("another", 1), ("a", 1), ("a", 0)):
        with phases.phase(name, total):
            pass
    assert job_bar(phases).completed == 10 and not job_bar(phases).finished  # no further than expected
    with phases.phase("b", 3) as advance:
        advance(3)
    assert job_bar(phases).finished and set(phases.seconds) == {"a", "another", "b"}
