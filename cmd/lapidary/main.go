// Command lapidary makes ONNX models smaller and faster, and proves what that cost.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if status, ok := workerMain(os.Args); ok {
		os.Exit(status)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], systemEnv())
	stop()
	os.Exit(status)
}
