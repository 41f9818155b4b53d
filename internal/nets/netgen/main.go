// Netgen writes networks of package nets as model files, for benchmarks.
//
//	go run ./internal/nets/netgen [flags] NAME...
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

func main() {
	dir := flag.String("o", ".", "folder to write into")
	style := flag.String("style", "torchscript", "exporter to write like")
	tiny := flag.Bool("tiny", false, "write the sizes for unit tests")
	external := flag.Bool("external", false, "put the weights into a file beside the model")
	sparse := flag.Bool("sparse", false, "put weights that are almost all zero into a sparse file beside the model")
	opset := flag.Int64("opset", 0, "opset; 0: what the exporter writes")
	batch := flag.Int64("batch", 0, "batch; 0: symbolic")
	seq := flag.Int64("seq", 0, "sequence length; 0: symbolic")
	nodes := flag.Int("nodes", 0, "nodes of the networks of any length; 0: as usual")
	size := flag.Int64("bytes", 0, "bytes of weights of the networks of any size; 0: as usual")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: netgen [flags] NAME...\nnames: %v\n", nets.Names())
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	o := nets.Options{Style: nets.Style(*style), Full: !*tiny, Opset: *opset, Batch: *batch, Seq: *seq, Nodes: *nodes, Bytes: *size}
	for _, name := range flag.Args() {
		path := filepath.Join(*dir, name+".onnx")
		err := write(path, name, o, *external, *sparse)
		if err != nil {
			fmt.Fprintf(os.Stderr, "netgen: %v\n", err)
			os.Exit(1)
		}
		fmt.Println(path)
	}
}

func write(path, name string, o nets.Options, external, sparse bool) error {
	if sparse {
		return nets.WriteSparse(path, name, o)
	}
	w := onnxfile.WriteOptions{}
	if external {
		w.External = onnxfile.ExternalAlways
	}
	return nets.Write(path, name, o, w)
}
