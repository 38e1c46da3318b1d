// Prints the descriptors of the gRPC interop services, with everything that they import, as one encoded
// FileDescriptorSet: the interop server has no reflection, so the gateway is given this file.
package main

import (
	"log"
	"os"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	_ "google.golang.org/grpc/interop/grpc_testing" // registers grpc/testing/*.proto
)

func main() {
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	add(set, seen, "grpc/testing/test.proto")
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := os.Stdout.Write(encoded); err != nil {
		log.Fatal(err)
	}
}

// add appends the file after everything that it imports.
func add(set *descriptorpb.FileDescriptorSet, seen map[string]bool, path string) {
	if seen[path] {
		return
	}
	seen[path] = true
	file, err := protoregistry.GlobalFiles.FindFileByPath(path)
	if err != nil {
		log.Fatalf("%s: %v", path, err)
	}
	imports := file.Imports()
	for i := range imports.Len() {
		add(set, seen, imports.Get(i).Path())
	}
	set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
}
