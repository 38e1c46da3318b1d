// Judges JSON texts and wire bytes by Go's protojson, for ../protojson.rs: a JSON object per line in, one out.
//
//	{"set"}                      a FileDescriptorSet; the cases that follow are about its messages
//	{"type", "json", "wire"}     is this JSON a message, and the one that the wire bytes are?
//	{"type", "message", "text"}  has this message a JSON form, and is it this text?
//
// The cases also have the settings of the mapping, by their names in protojson. The answer has "error" if protojson refuses, else "difference" if there is one.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"reflect"
	"regexp"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	// The well-known types.
	_ "google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"
)

// As tests/oracle/schema.rs has it.
var groupName = regexp.MustCompile(`"Grp[0-9]+":`)

type question struct {
	Set, JSON, Wire, Message, Text []byte
	Type                           string

	DiscardUnknown, EmitDefaultValues, UseProtoNames, UseEnumNumbers bool
}

type answer struct {
	Error      string `json:"error,omitempty"`
	Difference string `json:"difference,omitempty"`
}

type judge struct {
	files *protoregistry.Files
	types *dynamicpb.Types
}

func main() {
	in := bufio.NewReader(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	var current judge
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var asked question
		if err := json.Unmarshal(line, &asked); err != nil {
			log.Fatal(err)
		}
		var difference string
		if asked.Set != nil {
			current, err = load(asked.Set)
		} else {
			difference, err = current.answer(asked)
		}
		said := answer{Difference: difference}
		if err != nil {
			said = answer{Error: err.Error()}
		}
		encoded, err := json.Marshal(said)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprintf(out, "%s\n", encoded)
		out.Flush()
	}
}

// answer survives the panics of dynamicpb, which has no default for the key of a map entry that lacks one.
func (j judge) answer(asked question) (difference string, err error) {
	defer func() {
		if said := recover(); said != nil {
			err = fmt.Errorf("panic: %v", said)
		}
	}()
	if asked.JSON != nil {
		return j.reads(asked)
	}
	return j.writes(asked)
}

func load(encoded []byte) (judge, error) {
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(encoded, set); err != nil {
		return judge{}, err
	}
	files := &protoregistry.Files{}
	var failed error
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if err := files.RegisterFile(file); err != nil {
			failed = err
		}
		return failed == nil
	})
	for _, described := range set.File {
		if failed != nil {
			break
		}
		file, err := protodesc.NewFile(described, files)
		if err != nil {
			return judge{}, err
		}
		failed = files.RegisterFile(file)
	}
	return judge{files, dynamicpb.NewTypes(files)}, failed
}

func (j judge) message(name string) (proto.Message, error) {
	kind, err := j.types.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		return nil, err
	}
	return kind.New().Interface(), nil
}

func (j judge) parse(asked question, text []byte) (proto.Message, error) {
	message, err := j.message(asked.Type)
	if err != nil {
		return nil, err
	}
	options := protojson.UnmarshalOptions{Resolver: j.types, AllowPartial: true, DiscardUnknown: asked.DiscardUnknown}
	return message, options.Unmarshal(text, message)
}

func (j judge) decode(name string, wire []byte) (proto.Message, error) {
	message, err := j.message(name)
	if err != nil {
		return nil, err
	}
	options := proto.UnmarshalOptions{Resolver: j.types, DiscardUnknown: true, AllowPartial: true}
	return message, options.Unmarshal(wire, message)
}

func (j judge) reads(asked question) (string, error) {
	expected, err := j.parse(asked, asked.JSON)
	if err != nil || asked.Wire == nil {
		return "", err
	}
	if asked.DiscardUnknown && j.hasUnknownNumber(expected.ProtoReflect()) {
		return "", errors.New("a closed enum has an unknown number")
	}
	got, err := j.decode(asked.Type, asked.Wire)
	if err != nil {
		return "the wire bytes are no message: " + err.Error(), nil
	}
	return j.difference(expected, got), nil
}

func (j judge) writes(asked question) (string, error) {
	expected, err := j.decode(asked.Type, asked.Message)
	if err != nil {
		return "", err
	}
	if j.hasUnknownNumber(expected.ProtoReflect()) {
		return "", errors.New("a closed enum has an unknown number")
	}
	options := protojson.MarshalOptions{
		Resolver: j.types, AllowPartial: true,
		EmitDefaultValues: asked.EmitDefaultValues, UseProtoNames: asked.UseProtoNames, UseEnumNumbers: asked.UseEnumNumbers,
	}
	text, err := options.Marshal(expected)
	if err != nil || asked.Text == nil {
		return "", err
	}
	got, err := j.parse(asked, asked.Text)
	if err != nil {
		return "the text is no message: " + err.Error(), nil
	}
	if difference := j.difference(expected, got); difference != "" {
		return difference, nil
	}
	// By its name in the .proto file, a group is called like its message there, and like its field by others.
	if asked.UseProtoNames {
		text = groupName.ReplaceAllFunc(text, bytes.ToLower)
	}
	// The same spelling, but for the order of members and the notation of floats.
	if !reflect.DeepEqual(tree(text), tree(asked.Text)) {
		return "the text is " + string(text), nil
	}
	return "", nil
}

func tree(text []byte) any {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return err.Error()
	}
	return value
}

func (j judge) difference(expected, got proto.Message) string {
	j.normalize(expected.ProtoReflect())
	j.normalize(got.ProtoReflect())
	if proto.Equal(expected, got) {
		return ""
	}
	one, _ := protojson.MarshalOptions{Resolver: j.types, AllowPartial: true}.Marshal(expected)
	other, _ := protojson.MarshalOptions{Resolver: j.types, AllowPartial: true}.Marshal(got)
	if bytes.Equal(one, other) {
		return "the messages are not equal, though they have one text"
	}
	return fmt.Sprintf("expected %s, got %s", one, other)
}

// hasUnknownNumber says whether there is a number that a closed enum does not have. Go keeps it, as if the enum were
// open (https://protobuf.dev/programming-guides/enum/#go), so nothing can be learned from the message.
func (j judge) hasUnknownNumber(message protoreflect.Message) bool {
	if message.Descriptor().FullName() == "google.protobuf.Any" {
		inside, err := j.inside(message)
		return err == nil && j.hasUnknownNumber(inside)
	}
	found := false
	check := func(field protoreflect.FieldDescriptor, value protoreflect.Value) {
		switch {
		case field.Message() != nil:
			found = found || j.hasUnknownNumber(value.Message())
		case field.Enum() != nil && field.Enum().IsClosed():
			found = found || field.Enum().Values().ByNumber(value.Enum()) == nil
		}
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			value.Map().Range(func(_ protoreflect.MapKey, value protoreflect.Value) bool {
				check(field.MapValue(), value)
				return true
			})
		case field.IsList():
			for i := range value.List().Len() {
				check(field, value.List().Get(i))
			}
		default:
			check(field, value)
		}
		return !found
	})
	return found
}

// inside decodes what an Any holds.
func (j judge) inside(message protoreflect.Message) (protoreflect.Message, error) {
	fields := message.Descriptor().Fields()
	kind, err := j.types.FindMessageByURL(message.Get(fields.ByName("type_url")).String())
	if err != nil {
		return nil, err
	}
	inside, err := j.decode(string(kind.Descriptor().FullName()), message.Get(fields.ByName("value")).Bytes())
	if err != nil {
		return nil, err
	}
	return inside.ProtoReflect(), nil
}

// normalize writes what is inside of each Any anew: its fields may stand in any order.
func (j judge) normalize(message protoreflect.Message) {
	if message.Descriptor().FullName() == "google.protobuf.Any" {
		inside, err := j.inside(message)
		if err != nil {
			return
		}
		j.normalize(inside)
		wire, err := (proto.MarshalOptions{Deterministic: true, AllowPartial: true}).Marshal(inside.Interface())
		if err == nil {
			message.Set(message.Descriptor().Fields().ByName("value"), protoreflect.ValueOfBytes(wire))
		}
		return
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			value.Map().Range(func(_ protoreflect.MapKey, value protoreflect.Value) bool {
				j.normalize(value.Message())
				return true
			})
		case field.IsMap() || field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				j.normalize(value.List().Get(i).Message())
			}
		default:
			j.normalize(value.Message())
		}
		return true
	})
}
