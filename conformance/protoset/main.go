// Prints the descriptors of .proto files, with everything that they import, as one encoded FileDescriptorSet. It reads
// editions, which protox does not, and spares the suites a protoc.
//
//	protoset FOLDER FILE…
package main

import (
	"context"
	"log"
	"os"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("usage: protoset FOLDER FILE…")
	}
	sources := &protocompile.SourceResolver{ImportPaths: os.Args[1:2]}
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(sources)}
	files, err := compiler.Compile(context.Background(), os.Args[2:]...)
	if err != nil {
		log.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	for _, file := range files {
		add(set, seen, file)
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := os.Stdout.Write(encoded); err != nil {
		log.Fatal(err)
	}
}

// add appends the file after everything that it imports.
func add(set *descriptorpb.FileDescriptorSet, seen map[string]bool, file protoreflect.FileDescriptor) {
	if seen[file.Path()] {
		return
	}
	seen[file.Path()] = true
	imports := file.Imports()
	for i := range imports.Len() {
		add(set, seen, imports.Get(i).FileDescriptor)
	}
	// What the compiler linked knows its source still; imports from the standard library may not.
	if result, ok := file.(linker.Result); ok {
		set.File = append(set.File, result.FileDescriptorProto())
		return
	}
	set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
}
