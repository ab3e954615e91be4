// Detections from an exported model in C++, by TensorFlow's C API.
//
//   detect MODEL IMAGE [OP_LIBRARY]
//
// MODEL is the folder of a SavedModel that `tf-dcnv2 export` wrote, IMAGE a JPEG, PNG, BMP or GIF file. A model
// exported with --ops native needs the op library, whose path the export command prints; a portable one needs none.
// Prints one line for each detection: category id, score and y1 x1 y2 x2 in pixels of the file.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"
#include "tensorflow/core/protobuf/meta_graph.pb.h"

namespace {

template <auto Delete>
struct Deleter {
  template <typename T>
  void operator()(T* pointer) const {
    Delete(pointer);
  }
};

using Status = std::unique_ptr<TF_Status, Deleter<TF_DeleteStatus>>;
using Graph = std::unique_ptr<TF_Graph, Deleter<TF_DeleteGraph>>;
using Buffer = std::unique_ptr<TF_Buffer, Deleter<TF_DeleteBuffer>>;
using Tensor = std::unique_ptr<TF_Tensor, Deleter<TF_DeleteTensor>>;
using Options = std::unique_ptr<TF_SessionOptions, Deleter<TF_DeleteSessionOptions>>;

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "detect: %s\n", message.c_str());
  std::exit(1);
}

void Check(const Status& status, const std::string& doing) {
  if (TF_GetCode(status.get()) != TF_OK) Fail(doing + ": " + TF_Message(status.get()));
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) Fail(path + " cannot be read");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A tensor of shape [1] that holds the string.
Tensor StringTensor(const std::string& content) {
  const int64_t shape[] = {1};
  Tensor tensor(TF_AllocateTensor(TF_STRING, shape, 1, sizeof(TF_TString)));
  auto* element = static_cast<TF_TString*>(TF_TensorData(tensor.get()));
  TF_StringInit(element);
  TF_StringCopy(element, content.data(), content.size());
  return tensor;
}

// A signature names tensors of the graph as "operation:index".
TF_Output Find(const Graph& graph, const std::string& tensor_name) {
  const size_t colon = tensor_name.rfind(':');
  TF_Operation* operation = TF_GraphOperationByName(graph.get(), tensor_name.substr(0, colon).c_str());
  if (operation == nullptr) Fail("the graph has no tensor " + tensor_name);
  return {operation, std::atoi(tensor_name.c_str() + colon + 1)};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) Fail("usage: detect MODEL IMAGE [OP_LIBRARY]");
  const std::string model = argv[1], image = argv[2];
  const Status status(TF_NewStatus());

  if (argc > 3) {
    TF_LoadLibrary(argv[3], status.get());  // registers the ops for the rest of the process
    Check(status, std::string("loading ") + argv[3]);
  }

  const Graph graph(TF_NewGraph());
  const Buffer serialized(TF_NewBuffer());
  const Options options(TF_NewSessionOptions());
  const char* tag = "serve";
  TF_Session* session = TF_LoadSessionFromSavedModel(options.get(), nullptr, model.c_str(), &tag, 1, graph.get(),
                                                     serialized.get(), status.get());
  Check(status, "loading " + model);

  tensorflow::MetaGraphDef meta_graph;
  if (!meta_graph.ParseFromArray(serialized->data, static_cast<int>(serialized->length))) {
    Fail(model + " holds no graph that this TensorFlow reads");
  }
  const auto signature = meta_graph.signature_def().find("serving_bytes");
  if (signature == meta_graph.signature_def().end()) Fail(model + " has no signature serving_bytes");

  const TF_Output input = Find(graph, signature->second.inputs().at("image_bytes").name());
  const std::vector<std::string> names = {"boxes", "scores", "classes", "num_detections"};
  std::vector<TF_Output> outputs;
  for (const std::string& name : names) outputs.push_back(Find(graph, signature->second.outputs().at(name).name()));

  const Tensor file = StringTensor(ReadFile(image));
  TF_Tensor* given = file.get();
  std::vector<TF_Tensor*> results(names.size());
  TF_SessionRun(session, nullptr, &input, &given, 1, outputs.data(), results.data(), static_cast<int>(names.size()),
                nullptr, 0, nullptr, status.get());
  Check(status, "detecting in " + image);

  std::vector<Tensor> owned(results.begin(), results.end());
  const auto* boxes = static_cast<const float*>(TF_TensorData(results[0]));
  const auto* scores = static_cast<const float*>(TF_TensorData(results[1]));
  const auto* classes = static_cast<const int32_t*>(TF_TensorData(results[2]));
  const int32_t count = *static_cast<const int32_t*>(TF_TensorData(results[3]));
  for (int32_t i = 0; i < count; ++i) {
    const float* box = boxes + 4 * i;
    std::printf("%d %.9g %.9g %.9g %.9g %.9g\n", classes[i], scores[i], box[0], box[1], box[2], box[3]);
  }

  TF_CloseSession(session, status.get());
  TF_DeleteSession(session, status.get());
  return 0;
}
