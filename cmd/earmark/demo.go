package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"earmark/internal/demo"
)

type demoCommand struct {
	Data string `env:"EARMARK_DEMO_DATA" default:".earmark/demo" type:"path" help:"Where the demonstration's data lie; what was there goes."`
	Addr string `env:"EARMARK_DEMO_ADDR" default:"127.0.0.1:8091" help:"Where its service listens."`
}

func (c *demoCommand) Help() string {
	return `Plays a softphone, a reviewer and the officers over the public HTTP API: calls go in, are
found, heard, drawn, scored, held, purged with proof and erased. Exits 0 when every step
was as it should be. It needs espeak-ng, sox and ffmpeg, which make demo installs.`
}

// Run plays the demonstration.
func (c *demoCommand) Run(ctx context.Context, o *output) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	data, err := filepath.Abs(c.Data)
	if err != nil {
		return err
	}
	return demo.Run(ctx, demo.Options{Program: program, Data: data, Addr: c.Addr, Out: o.out})
}
