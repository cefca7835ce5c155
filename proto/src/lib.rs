//! The broker's gRPC interface: .proto files, generated code, conversions to the model.
