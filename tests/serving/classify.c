/* A program without Python: image files in, labels out, by TensorFlow's C API. This is what TF Serving does inside.
 *
 *     classify SAVED_MODEL INPUT LABELS PROBABILITIES IMAGE...
 *
 * INPUT, LABELS and PROBABILITIES are the tensors of the default signature as `saved_model_cli show` names them, such as
 * serving_default_image_bytes:0. For each image it prints its best label and the probability.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>
#include <tensorflow/c/tf_tstring.h>

static void check(const TF_Status *status) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "classify: %s\n", TF_Message(status));
    exit(1);
  }
}

static TF_Output named(TF_Graph *graph, const char *tensor) {
  char name[256];
  snprintf(name, sizeof name, "%s", tensor);
  char *colon = strrchr(name, ':');
  int index = colon ? atoi(colon + 1) : 0;
  if (colon) *colon = 0;
  TF_Output output = {TF_GraphOperationByName(graph, name), index};
  if (!output.oper) {
    fprintf(stderr, "classify: no tensor %s\n", tensor);
    exit(1);
  }
  return output;
}

static void read_file(const char *path, TF_TString *content) {
  FILE *file = fopen(path, "rb");
  if (!file) exit(2);
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  rewind(file);
  char *bytes = malloc(size ? size : 1);
  if (fread(bytes, 1, size, file) != (size_t)size) exit(2);
  fclose(file);
  TF_TString_Init(content);
  TF_TString_Copy(content, bytes, size);
  free(bytes);
}

int main(int count, char **arguments) {
  if (count < 6) return 2;
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, arguments[1], tags, 1, graph, NULL, status);
  check(status);

  int64_t batch = count - 5;
  TF_Tensor *input = TF_AllocateTensor(TF_STRING, &batch, 1, batch * sizeof(TF_TString));
  for (int64_t i = 0; i < batch; i++) read_file(arguments[5 + i], (TF_TString *)TF_TensorData(input) + i);

  TF_Output fed = named(graph, arguments[2]);
  TF_Output fetched[] = {named(graph, arguments[3]), named(graph, arguments[4])};
  TF_Tensor *found[2];
  TF_SessionRun(session, NULL, &fed, &input, 1, fetched, found, 2, NULL, 0, NULL, status);
  check(status);

  const TF_TString *labels = TF_TensorData(found[0]);
  const float *probabilities = TF_TensorData(found[1]);
  int64_t answers = TF_Dim(found[0], 1);
  for (int64_t i = 0; i < batch; i++) {
    const TF_TString *label = labels + i * answers;
    printf("%.*s\t%.6f\n", (int)TF_TString_GetSize(label), TF_TString_GetDataPointer(label), probabilities[i * answers]);
  }
  return 0;
}
