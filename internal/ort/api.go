//go:build cgo

package ort

/*
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// The runtime's functions are reached by their place in its table, OrtApi,
// which only ever grows at its end; TestTable compares these places with the
// header that the binding ships.
enum {
  fnGetErrorMessage = 2,
  fnRun = 9,
  fnSessionGetInputCount = 30,
  fnSessionGetOutputCount = 31,
  fnSessionGetOverridableInitializerCount = 32,
  fnSessionGetInputTypeInfo = 33,
  fnSessionGetOutputTypeInfo = 34,
  fnSessionGetOverridableInitializerTypeInfo = 35,
  fnSessionGetInputName = 36,
  fnSessionGetOutputName = 37,
  fnSessionGetOverridableInitializerName = 38,
  fnCreateTensorAsOrtValue = 48,
  fnCreateTensorWithDataAsOrtValue = 49,
  fnGetTensorMutableData = 51,
  fnGetStringTensorDataLength = 53,
  fnGetStringTensorContent = 54,
  fnCastTypeInfoToTensorInfo = 55,
  fnGetOnnxTypeFromTypeInfo = 56,
  fnGetTensorElementType = 60,
  fnGetDimensionsCount = 61,
  fnGetDimensions = 62,
  fnGetSymbolicDimensions = 63,
  fnGetTensorTypeAndShape = 65,
  fnGetValueType = 67,
  fnAllocatorFree = 76,
  fnGetAllocatorWithDefaultOptions = 78,
  fnGetValue = 80,
  fnGetValueCount = 81,
  fnCreateValue = 82,
  fnReleaseStatus = 93,
  fnReleaseValue = 96,
  fnReleaseTypeInfo = 98,
  fnReleaseTensorTypeAndShapeInfo = 99,
  fnCastTypeInfoToMapTypeInfo = 103,
  fnCastTypeInfoToSequenceTypeInfo = 104,
  fnGetMapKeyType = 105,
  fnGetMapValueType = 106,
  fnGetSequenceElementType = 107,
  fnSessionEndProfiling = 110,
  fnGetAvailableProviders = 125,
  fnReleaseAvailableProviders = 126,
  fnHasValue = 192,
  fnCastTypeInfoToOptionalTypeInfo = 250,
  fnGetOptionalContainedTypeInfo = 251,
  fnGetResizedStringTensorElementBuffer = 252,
  fnSetUserLoggingFunction = 266,
  fnSessionOptionsSetLoadCancellationFlag = 293,
  fnGetTensorSizeInBytes = 318,
  fnTensorTypeAndShape_HasShape = 390,
  fnSession_GetEpGraphAssignmentInfo = 407,
  fnEpAssignedSubgraph_GetEpName = 408,
  fnEpAssignedSubgraph_GetNodes = 409,
};

// Every call below returns a status, NULL for success, unless it is said to
// release something. Objects of the runtime are void*.
typedef void *(*fn1)(void *);
typedef void *(*fn2)(void *, void *);
typedef void *(*fn3)(void *, void *, void *);
typedef void *(*fnIndex)(void *, size_t, void *);
typedef void *(*fnIndexAlloc)(void *, size_t, void *, void *);

#define CALL(type, f) ((type)(((void **)api)[f]))

static void *call1(void *api, int f, void *a) { return CALL(fn1, f)(a); }
static void *call2(void *api, int f, void *a, void *b) { return CALL(fn2, f)(a, b); }
static void *call3(void *api, int f, void *a, void *b, void *c) { return CALL(fn3, f)(a, b, c); }
static void *callIndex(void *api, int f, void *a, size_t i, void *b) { return CALL(fnIndex, f)(a, i, b); }
static void *callIndexAlloc(void *api, int f, void *a, size_t i, void *alloc, void *out) {
  return CALL(fnIndexAlloc, f)(a, i, alloc, out);
}

static void *callSized(void *api, int f, void *a, void *b, size_t n) {
  return CALL(void *(*)(void *, void *, size_t), f)(a, b, n);
}

static int hasShape(void *api, void *info) {
  return ((_Bool (*)(void *))((void **)api)[fnTensorTypeAndShape_HasShape])(info);
}
static void *setLoadCancel(void *api, void *options) {
  return CALL(void *(*)(void *, _Bool), fnSessionOptionsSetLoadCancellationFlag)(options, 1);
}
static void *releaseProviders(void *api, void *list, int n) {
  return CALL(void *(*)(void *, int), fnReleaseAvailableProviders)(list, n);
}
static void *newTensor(void *api, void *memory, void *data, size_t len, int64_t *shape, size_t rank, int type, void *out) {
  return CALL(void *(*)(void *, void *, size_t, int64_t *, size_t, int, void *), fnCreateTensorWithDataAsOrtValue)(
      memory, data, len, shape, rank, type, out);
}
static void *allocTensor(void *api, void *alloc, int64_t *shape, size_t rank, int type, void *out) {
  return CALL(void *(*)(void *, int64_t *, size_t, int, void *), fnCreateTensorAsOrtValue)(alloc, shape, rank, type, out);
}
static void *fillString(void *api, void *value, size_t i, size_t len, void *out) {
  return CALL(void *(*)(void *, size_t, size_t, void *), fnGetResizedStringTensorElementBuffer)(value, i, len, out);
}
static void *getStrings(void *api, void *value, void *bytes, size_t len, void *offsets, size_t n) {
  return CALL(void *(*)(void *, void *, size_t, void *, size_t), fnGetStringTensorContent)(value, bytes, len, offsets, n);
}
static void *getValue(void *api, void *value, int i, void *alloc, void *out) {
  return CALL(void *(*)(void *, int, void *, void *), fnGetValue)(value, i, alloc, out);
}
static void *newValue(void *api, void *values, size_t n, int kind, void *out) {
  return CALL(void *(*)(void *, size_t, int, void *), fnCreateValue)(values, n, kind, out);
}
static void *run(void *api, void *session, void *options, void *inNames, void *in, size_t nIn,
                 void *outNames, size_t nOut, void *out) {
  return CALL(void *(*)(void *, void *, void *, void *, size_t, void *, size_t, void *), fnRun)(
      session, options, inNames, in, nIn, outNames, nOut, out);
}

extern void lapidaryOrtLog(uintptr_t, int, char *, char *);

static void logged(void *param, int severity, const char *category, const char *id, const char *where, const char *msg) {
  lapidaryOrtLog((uintptr_t)param, severity, (char *)category, (char *)msg);
}
static void *setLogger(void *api, void *options, uintptr_t handle) {
  return CALL(void *(*)(void *, void *, void *), fnSetUserLoggingFunction)(options, (void *)logged, (void *)handle);
}

static void *apiOf(void *base, uint32_t version) {
  // OrtApiBase is {GetApi, GetVersionString}.
  return ((void *(*)(uint32_t))((void **)base)[0])(version);
}
static void *callBase(void *fn) { return ((void *(*)(void))fn)(); }
*/
import "C"

import (
	"errors"
	"unsafe"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// apiVersion is the ORT_API_VERSION of the binding: the least version whose
// table has all functions named above.
const apiVersion = 24

// ptr is an object of the runtime.
type ptr = unsafe.Pointer

// api is the runtime's function table with its default allocator and the
// description of host memory.
type api struct {
	table, alloc, memory ptr
	asProto              bool // see elementType
}

// newAPI returns the table behind getBase, the library's OrtGetApiBase.
func newAPI(getBase, memory ptr) (*api, error) {
	a := &api{table: C.apiOf(C.callBase(getBase), apiVersion), memory: memory}
	if a.table == nil {
		return nil, errors.New("it is older than " + MinVersion)
	}
	if err := a.status(C.call1(a.table, C.fnGetAllocatorWithDefaultOptions, ptr(&a.alloc))); err != nil {
		return nil, err
	}
	a.asProto = a.probeNumbering()
	return a, nil
}

// probeNumbering finds out what the library makes of element type 24: four
// elements of Uint2 take one byte, of Float8E8M0 four.
func (a *api) probeNumbering() (asProto bool) {
	shape := [1]int64{4}
	var v ptr
	err := a.status(C.allocTensor(a.table, a.alloc, (*C.int64_t)(&shape[0]), 1, C.int(onnx.Float8E8M0), ptr(&v)))
	if err != nil {
		return false
	}
	defer a.releaseValue(v)
	var size C.size_t
	err = a.status(C.call2(a.table, C.fnGetTensorSizeInBytes, v, ptr(&size)))
	return err == nil && size == 4
}

// status turns a status of the runtime into an error and releases it.
func (a *api) status(s ptr) error {
	if s == nil {
		return nil
	}
	msg := C.GoString((*C.char)(C.call1(a.table, C.fnGetErrorMessage, s)))
	C.call1(a.table, C.fnReleaseStatus, s)
	return errors.New(tidy(msg))
}

func (a *api) releaseValue(v ptr) {
	if v != nil {
		C.call1(a.table, C.fnReleaseValue, v)
	}
}

// takeString copies a string that the default allocator made, and frees it.
func (a *api) takeString(s *C.char) string {
	out := C.GoString(s)
	C.call2(a.table, C.fnAllocatorFree, a.alloc, ptr(s))
	return out
}

// providers returns the execution providers of the library.
func (a *api) providers() ([]string, error) {
	var list **C.char
	var n C.int
	if err := a.status(C.call2(a.table, C.fnGetAvailableProviders, ptr(&list), ptr(&n))); err != nil {
		return nil, err
	}
	var out []string
	for _, s := range unsafe.Slice(list, int(n)) {
		out = append(out, C.GoString(s))
	}
	return out, a.status(C.releaseProviders(a.table, ptr(list), n))
}

func (a *api) setLogger(options ptr, handle uintptr) error {
	return a.status(C.setLogger(a.table, options, C.uintptr_t(handle)))
}

// cancelLoad makes a session that is being created with options fail soon.
func (a *api) cancelLoad(options ptr) { _ = a.status(C.setLoadCancel(a.table, options)) }

// endProfiling returns the name of the file that holds the trace.
func (a *api) endProfiling(session ptr) (string, error) {
	var name *C.char
	if err := a.status(C.call3(a.table, C.fnSessionEndProfiling, session, a.alloc, ptr(&name))); err != nil {
		return "", err
	}
	return a.takeString(name), nil
}

// cStrings is an array of C strings, made once per session.
type cStrings []*C.char

func newCStrings(names []string) cStrings {
	out := make(cStrings, len(names))
	for i, n := range names {
		out[i] = C.CString(n)
	}
	return out
}

func (s cStrings) free() {
	for _, p := range s {
		C.free(ptr(p))
	}
}

// run calls the model once; nil elements of out are allocated by the runtime.
func (a *api) run(session, options ptr, inNames cStrings, in []ptr, outNames cStrings, out []ptr) error {
	return a.status(C.run(a.table, session, options, ptr(unsafe.SliceData(inNames)), ptr(unsafe.SliceData(in)), C.size_t(len(in)),
		ptr(unsafe.SliceData(outNames)), C.size_t(len(out)), ptr(unsafe.SliceData(out))))
}

// assigned returns the number of nodes that each execution provider runs,
// known for sessions that recorded it.
func (a *api) assigned(session ptr) (map[string]int, error) {
	var list *ptr
	var n C.size_t
	if err := a.status(C.call3(a.table, C.fnSession_GetEpGraphAssignmentInfo, session, ptr(&list), ptr(&n))); err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, sub := range unsafe.Slice(list, int(n)) {
		var name *C.char
		if err := a.status(C.call2(a.table, C.fnEpAssignedSubgraph_GetEpName, sub, ptr(&name))); err != nil {
			return nil, err
		}
		var nodes *ptr
		var count C.size_t
		if err := a.status(C.call3(a.table, C.fnEpAssignedSubgraph_GetNodes, sub, ptr(&nodes), ptr(&count))); err != nil {
			return nil, err
		}
		out[C.GoString(name)] += int(count)
	}
	return out, nil
}

// portKind says which list of a session's values is meant.
type portKind int

const (
	inputPorts portKind = iota
	outputPorts
	defaultPorts // initializers that an input may override
)

// ports returns names and types of a session's values.
func (a *api) ports(session ptr, k portKind) (names []string, types []*onnx.Type, err error) {
	count := [...]C.int{C.fnSessionGetInputCount, C.fnSessionGetOutputCount, C.fnSessionGetOverridableInitializerCount}[k]
	getName := [...]C.int{C.fnSessionGetInputName, C.fnSessionGetOutputName, C.fnSessionGetOverridableInitializerName}[k]
	getType := [...]C.int{C.fnSessionGetInputTypeInfo, C.fnSessionGetOutputTypeInfo, C.fnSessionGetOverridableInitializerTypeInfo}[k]
	var n C.size_t
	if err := a.status(C.call2(a.table, count, session, ptr(&n))); err != nil {
		return nil, nil, err
	}
	for i := C.size_t(0); i < n; i++ {
		var name *C.char
		if err := a.status(C.callIndexAlloc(a.table, getName, session, i, a.alloc, ptr(&name))); err != nil {
			return nil, nil, err
		}
		names = append(names, a.takeString(name))
		var info ptr
		if err := a.status(C.callIndex(a.table, getType, session, i, ptr(&info))); err != nil {
			return nil, nil, err
		}
		t, err := a.typeOf(info)
		C.call1(a.table, C.fnReleaseTypeInfo, info)
		if err != nil {
			return nil, nil, err
		}
		types = append(types, t)
	}
	return names, types, nil
}

// typeOf translates an OrtTypeInfo.
func (a *api) typeOf(info ptr) (*onnx.Type, error) {
	var kind C.int
	if err := a.status(C.call2(a.table, C.fnGetOnnxTypeFromTypeInfo, info, ptr(&kind))); err != nil {
		return nil, err
	}
	switch kind {
	case valueTensor, valueSparse:
		t, err := a.tensorType(info)
		if t != nil && kind == valueSparse {
			t.Kind = onnx.KindSparseTensor
		}
		return t, err
	case valueSequence:
		of, err := a.innerType(info, C.fnCastTypeInfoToSequenceTypeInfo, C.fnGetSequenceElementType)
		return &onnx.Type{Kind: onnx.KindSequence, Of: of}, err
	case valueOptional:
		of, err := a.innerType(info, C.fnCastTypeInfoToOptionalTypeInfo, C.fnGetOptionalContainedTypeInfo)
		return &onnx.Type{Kind: onnx.KindOptional, Of: of}, err
	case valueMap:
		of, err := a.innerType(info, C.fnCastTypeInfoToMapTypeInfo, C.fnGetMapValueType)
		if err != nil {
			return nil, err
		}
		var m ptr
		var key C.int
		if err := a.status(C.call2(a.table, C.fnCastTypeInfoToMapTypeInfo, info, ptr(&m))); err != nil {
			return nil, err
		}
		err = a.status(C.call2(a.table, C.fnGetMapKeyType, m, ptr(&key)))
		return &onnx.Type{Kind: onnx.KindMap, Of: of, Key: dtypeOf(int(key))}, err
	case valueOpaque:
		return &onnx.Type{Kind: onnx.KindOpaque}, nil
	}
	return nil, nil
}

// innerType returns the element type of a sequence, optional or map. The cast
// object belongs to info; the type that get makes is released.
func (a *api) innerType(info ptr, cast, get C.int) (*onnx.Type, error) {
	var outer, inner ptr
	if err := a.status(C.call2(a.table, cast, info, ptr(&outer))); err != nil {
		return nil, err
	}
	if err := a.status(C.call2(a.table, get, outer, ptr(&inner))); err != nil {
		return nil, err
	}
	defer C.call1(a.table, C.fnReleaseTypeInfo, inner)
	return a.typeOf(inner)
}

func (a *api) tensorType(info ptr) (*onnx.Type, error) {
	var t ptr
	if err := a.status(C.call2(a.table, C.fnCastTypeInfoToTensorInfo, info, ptr(&t))); err != nil {
		return nil, err
	}
	elem, dims, err := a.shapeOf(t)
	if err != nil {
		return nil, err
	}
	out := onnx.TensorType(elem, nil)
	if C.hasShape(a.table, t) == 0 {
		return out, nil
	}
	names := make([]*C.char, len(dims))
	if err := a.status(C.callSized(a.table, C.fnGetSymbolicDimensions, t, ptr(unsafe.SliceData(names)), C.size_t(len(names)))); err != nil {
		return nil, err
	}
	out.Shape = onnx.Shape{}
	for i, d := range dims {
		dim := onnx.Fixed(d)
		if d < 0 {
			dim = onnx.Symbol(C.GoString(names[i]))
		}
		out.Shape = append(out.Shape, dim)
	}
	return out, nil
}

// shapeOf reads an OrtTensorTypeAndShapeInfo; unknown dimensions are -1.
func (a *api) shapeOf(info ptr) (onnx.DType, []int64, error) {
	var elem C.int
	if err := a.status(C.call2(a.table, C.fnGetTensorElementType, info, ptr(&elem))); err != nil {
		return 0, nil, err
	}
	var rank C.size_t
	if err := a.status(C.call2(a.table, C.fnGetDimensionsCount, info, ptr(&rank))); err != nil {
		return 0, nil, err
	}
	dims := make([]int64, rank)
	err := a.status(C.callSized(a.table, C.fnGetDimensions, info, ptr(unsafe.SliceData(dims)), rank))
	return dtypeOf(int(elem)), dims, err
}

// newTensor makes a value over the n bytes at data, which must stay in place
// while the value lives.
func (a *api) newTensor(d onnx.DType, shape []int64, data ptr, n int) (v ptr, err error) {
	err = a.status(C.newTensor(a.table, a.memory, data, C.size_t(n), (*C.int64_t)(unsafe.SliceData(shape)), C.size_t(len(shape)),
		C.int(elementType(d, a.asProto)), ptr(&v)))
	return v, err
}

// newStrings makes a string tensor, which holds copies of s.
func (a *api) newStrings(shape []int64, s [][]byte) (v ptr, err error) {
	err = a.status(C.allocTensor(a.table, a.alloc, (*C.int64_t)(unsafe.SliceData(shape)), C.size_t(len(shape)),
		C.int(elementType(onnx.String, a.asProto)), ptr(&v)))
	if err != nil {
		return nil, err
	}
	for i, b := range s {
		var dst ptr
		if err := a.status(C.fillString(a.table, v, C.size_t(i), C.size_t(len(b)), ptr(&dst))); err != nil {
			a.releaseValue(v)
			return nil, err
		}
		copy(unsafe.Slice((*byte)(dst), len(b)), b)
	}
	return v, nil
}

// newValue makes a sequence or a map (keys, values) of values.
func (a *api) newValue(kind int, parts []ptr) (v ptr, err error) {
	err = a.status(C.newValue(a.table, ptr(unsafe.SliceData(parts)), C.size_t(len(parts)), C.int(kind), ptr(&v)))
	return v, err
}

// kindOf returns a value's kind, and whether it holds something at all.
func (a *api) kindOf(v ptr) (kind int, present bool, err error) {
	var has, k C.int
	if err := a.status(C.call2(a.table, C.fnHasValue, v, ptr(&has))); err != nil || has == 0 {
		return 0, false, err
	}
	err = a.status(C.call2(a.table, C.fnGetValueType, v, ptr(&k)))
	return int(k), true, err
}

// parts returns the elements of a sequence, or keys and values of a map, each
// to be released.
func (a *api) parts(v ptr) ([]ptr, error) {
	var n C.size_t
	if err := a.status(C.call2(a.table, C.fnGetValueCount, v, ptr(&n))); err != nil {
		return nil, err
	}
	var out []ptr
	for i := C.int(0); i < C.int(n); i++ {
		var e ptr
		if err := a.status(C.getValue(a.table, v, i, a.alloc, ptr(&e))); err != nil {
			a.releaseAll(out)
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func (a *api) releaseAll(list []ptr) {
	for _, v := range list {
		a.releaseValue(v)
	}
}

// tensorShape returns element type and shape of a tensor value.
func (a *api) tensorShape(v ptr) (onnx.DType, []int64, error) {
	var info ptr
	if err := a.status(C.call2(a.table, C.fnGetTensorTypeAndShape, v, ptr(&info))); err != nil {
		return 0, nil, err
	}
	defer C.call1(a.table, C.fnReleaseTensorTypeAndShapeInfo, info)
	return a.shapeOf(info)
}

// tensorData returns the address of a numeric tensor's elements.
func (a *api) tensorData(v ptr) (data ptr, err error) {
	err = a.status(C.call2(a.table, C.fnGetTensorMutableData, v, ptr(&data)))
	return data, err
}

// strings returns copies of the n elements of a string tensor.
func (a *api) strings(v ptr, n int64) ([][]byte, error) {
	var size C.size_t
	if err := a.status(C.call2(a.table, C.fnGetStringTensorDataLength, v, ptr(&size))); err != nil {
		return nil, err
	}
	b, ends := make([]byte, size), make([]C.size_t, n)
	if n == 0 {
		return nil, nil
	}
	err := a.status(C.getStrings(a.table, v, ptr(unsafe.SliceData(b)), size, ptr(unsafe.SliceData(ends)), C.size_t(n)))
	if err != nil {
		return nil, err
	}
	out := make([][]byte, n)
	for i := range out {
		end := size
		if i+1 < len(ends) {
			end = ends[i+1]
		}
		out[i] = b[ends[i]:end:end]
	}
	return out, nil
}
