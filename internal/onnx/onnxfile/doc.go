// Package onnxfile reads and writes .onnx files and their external data.
//
// [Open] maps the file and decodes the graph by its protobuf wire format;
// tensor contents stay in the mapping, or in an external file, until someone
// asks for them. [Write] streams to a temporary file and renames it, so the
// model is never held twice and an interrupted write leaves the target as it was.
//
// Fields that this package does not know are kept and written back. Numbers of
// messages and fields follow onnx.proto of ONNX IR version 13.
package onnxfile
