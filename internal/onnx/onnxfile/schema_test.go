package onnxfile

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// schema lists the messages of onnx.proto, IR version 13: per field its name,
// number and type; "*" marks repeated fields, a capital letter a message.
const schema = `
Model ir_version=1:int64 producer_name=2:string producer_version=3:string domain=4:string model_version=5:int64 doc_string=6:string graph=7:Graph opset_import=8:*Opset metadata_props=14:*Entry training_info=20:*Training functions=25:*Function configuration=26:*DeviceConfig
Training initialization=1:Graph algorithm=2:Graph initialization_binding=3:*Entry update_binding=4:*Entry
DeviceConfig name=1:string num_devices=2:int32 device=3:*string
Graph node=1:*Node name=2:string initializer=5:*Tensor doc_string=10:string input=11:*ValueInfo output=12:*ValueInfo value_info=13:*ValueInfo quantization_annotation=14:*Annotation sparse_initializer=15:*Sparse metadata_props=16:*Entry
Annotation tensor_name=1:string quant_parameter_tensor_names=2:*Entry
Opset domain=1:string version=2:int64
Entry key=1:string value=2:string
Function name=1:string input=4:*string output=5:*string attribute=6:*string node=7:*Node doc_string=8:string opset_import=9:*Opset domain=10:string attribute_proto=11:*Attribute value_info=12:*ValueInfo overload=13:string metadata_props=14:*Entry
Node input=1:*string output=2:*string name=3:string op_type=4:string attribute=5:*Attribute doc_string=6:string domain=7:string overload=8:string metadata_props=9:*Entry device_configurations=10:*NodeDevice
NodeDevice configuration_id=1:string sharding_spec=2:*Sharding pipeline_stage=3:int32
Sharding tensor_name=1:string device=2:*int64
Attribute name=1:string f=2:float i=3:int64 s=4:bytes t=5:Tensor g=6:Graph floats=7:*float ints=8:*int64 strings=9:*bytes tensors=10:*Tensor graphs=11:*Graph doc_string=13:string tp=14:Type type_protos=15:*Type type=20:int32 ref_attr_name=21:string sparse_tensor=22:Sparse sparse_tensors=23:*Sparse
ValueInfo name=1:string type=2:Type doc_string=3:string metadata_props=4:*Entry
Tensor dims=1:*int64 data_type=2:int32 float_data=4:*float int32_data=5:*int32 string_data=6:*bytes int64_data=7:*int64 name=8:string raw_data=9:bytes double_data=10:*double uint64_data=11:*uint64 doc_string=12:string external_data=13:*Entry data_location=14:int32 metadata_props=16:*Entry
Sparse values=1:Tensor indices=2:Tensor dims=3:*int64
Type tensor_type=1:TensorType sequence_type=4:SequenceType map_type=5:MapType denotation=6:string opaque_type=7:OpaqueType sparse_tensor_type=8:TensorType optional_type=9:SequenceType
TensorType elem_type=1:int32 shape=2:Shape
SequenceType elem_type=1:Type
MapType key_type=1:int32 value_type=2:Type
OpaqueType domain=1:string name=2:string
Shape dim=1:*Dimension
Dimension dim_value=1:int64 dim_param=2:string denotation=3:string
`

// modelType builds the message type of ModelProto from schema.
func modelType(t *testing.T) protoreflect.MessageType {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{Name: proto.String("schema.proto"), Package: proto.String("t"), Syntax: proto.String("proto2")}
	for line := range strings.Lines(strings.TrimSpace(schema)) {
		words := strings.Fields(line)
		msg := &descriptorpb.DescriptorProto{Name: proto.String(words[0])}
		for _, w := range words[1:] {
			msg.Field = append(msg.Field, fieldDescriptor(t, w))
		}
		file.MessageType = append(file.MessageType, msg)
	}
	fd, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return dynamicpb.NewMessageType(fd.Messages().ByName("Model"))
}

func fieldDescriptor(t *testing.T, w string) *descriptorpb.FieldDescriptorProto {
	name, rest, _ := strings.Cut(w, "=")
	num, typ, ok := strings.Cut(rest, ":")
	if !ok {
		t.Fatalf("malformed schema word %q", w)
	}
	n := int32(0)
	for _, c := range num {
		n = 10*n + c - '0'
	}
	f := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &n, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
	if r, many := strings.CutPrefix(typ, "*"); many {
		typ, f.Label = r, descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	}
	if v, scalar := descriptorpb.FieldDescriptorProto_Type_value["TYPE_"+strings.ToUpper(typ)]; scalar && typ == strings.ToLower(typ) {
		f.Type = descriptorpb.FieldDescriptorProto_Type(v).Enum()
		return f
	}
	f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String(".t."+typ)
	return f
}

// normalize removes from m what carries no meaning and the codec may change:
// singular scalars that are set to their default; negative sizes, which mean an
// unknown one; types that say nothing; the order of value_info and repetitions
// in it of what inputs, outputs and constants say.
func normalize(m protoreflect.Message) {
	var drop []protoreflect.FieldDescriptor
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				normalize(v.List().Get(i).Message())
			}
		case f.IsList():
		case f.Name() == "dim_value" && v.Int() < 0:
			drop = append(drop, f)
		case f.Message() != nil:
			normalize(v.Message())
			if f.Message().Name() == "Type" && proto.Size(v.Message().Interface()) == 0 {
				drop = append(drop, f)
			}
		case v.Equal(f.Default()) || f.Kind() == protoreflect.BytesKind && len(v.Bytes()) == 0:
			drop = append(drop, f)
		}
		return true
	})
	for _, f := range drop {
		m.Clear(f)
	}
	switch m.Descriptor().Name() {
	case "Graph":
		sortInfos(m, "value_info", infoNames(m, "input", "output", "initializer"))
	case "Function":
		sortInfos(m, "value_info", nil)
	}
}

func nameOf(m protoreflect.Message) string {
	return m.Get(m.Descriptor().Fields().ByName("name")).String()
}

func infoNames(m protoreflect.Message, fields ...protoreflect.Name) map[string]bool {
	out := map[string]bool{}
	for _, f := range fields {
		l := m.Get(m.Descriptor().Fields().ByName(f)).List()
		for i := range l.Len() {
			out[nameOf(l.Get(i).Message())] = true
		}
	}
	return out
}

func sortInfos(m protoreflect.Message, field protoreflect.Name, known map[string]bool) {
	f := m.Descriptor().Fields().ByName(field)
	if !m.Has(f) {
		return
	}
	l := m.Mutable(f).List()
	var kept []protoreflect.Value
	for i := range l.Len() {
		if v := l.Get(i); !known[nameOf(v.Message())] {
			kept = append(kept, v)
		}
	}
	slices.SortStableFunc(kept, func(a, b protoreflect.Value) int { return strings.Compare(nameOf(a.Message()), nameOf(b.Message())) })
	l.Truncate(0)
	for _, v := range kept {
		l.Append(v)
	}
	if l.Len() == 0 {
		m.Clear(f)
	}
}

// deviations lists the models that are known to be written otherwise, with the
// first field that differs.
var deviations = map[string]string{
	"ort-testdata.zip:ort_github_issue_11536.onnx":                               "graph.value_info: 0 elements",
	"ort-transform.zip:fusion/fuse-conv-bn-mul-add-unsqueeze.negative_axes.onnx": "graph.output[0].type.tensor_type.shape.dim: 2 elements",
	"ort-transform.zip:fusion/fuse-conv-bn-mul-add-unsqueeze.onnx":               "graph.output[0].type.tensor_type.shape.dim: 2 elements",
}

// TestCorpusSchema compares each model with what this codec writes of it, both
// parsed by an independent implementation of the published schema.
func TestCorpusSchema(t *testing.T) {
	typ := modelType(t)
	compared, failed := 0, 0
	eachModel(t, func(name string, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		enc, err := Encode(m)
		if err != nil {
			return
		}
		want, got := typ.New(), typ.New()
		if err := proto.Unmarshal(b, want.Interface()); err != nil {
			t.Logf("%s: the original does not parse: %v", name, err)
			return
		}
		if err := proto.Unmarshal(enc, got.Interface()); err != nil {
			t.Errorf("%s: what was written does not parse: %v", name, err)
			return
		}
		compared++
		normalize(want)
		normalize(got)
		if proto.Equal(want.Interface(), got.Interface()) {
			return
		}
		diff := firstDiff(want, got)
		if known := deviations[name]; known != "" && strings.HasPrefix(diff, known) {
			return
		}
		if failed++; failed <= 20 {
			t.Errorf("%s: %s", name, diff)
		}
	})
	t.Logf("%d models compared, %d differ", compared, failed)
	if compared < 1000 || failed > 0 {
		t.Errorf("%d of %d models differ", failed, compared)
	}
}

// firstDiff returns the path of the first field in which a and b differ.
func firstDiff(a, b protoreflect.Message) string {
	fields := a.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		x, y := a.Get(f), b.Get(f)
		if a.Has(f) == b.Has(f) && x.Equal(y) {
			continue
		}
		name := string(f.Name())
		switch {
		case f.IsList() && x.List().Len() != y.List().Len():
			return fmt.Sprintf("%s: %d elements, written %d", name, x.List().Len(), y.List().Len())
		case f.IsList() && f.Message() != nil:
			for k := range x.List().Len() {
				if d := firstDiff(x.List().Get(k).Message(), y.List().Get(k).Message()); d != "" {
					return fmt.Sprintf("%s[%d].%s", name, k, d)
				}
			}
		case !f.IsList() && f.Message() != nil && a.Has(f) && b.Has(f):
			return name + "." + firstDiff(x.Message(), y.Message())
		}
		return fmt.Sprintf("%s: %.80v, written %.80v", name, x, y)
	}
	if string(a.GetUnknown()) != string(b.GetUnknown()) {
		return fmt.Sprintf("unknown fields: %.40x, written %.40x", a.GetUnknown(), b.GetUnknown())
	}
	return ""
}
