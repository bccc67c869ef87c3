// Earmark keeps what a call centre records: calls and other interactions, each
// ear-marked with why it may be heard and when it must go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"earmark/internal/api"
	"earmark/internal/invalid"
)

const description = `Earmark keeps call recordings and interactions: sealed, findable, heard only
for a stated purpose, and destroyed with proof when their time has come.

Begin with:

  earmark up                        run everything on this machine
  earmark key create --role uploader --name pbx
  earmark demo                      the whole life of a recording, step by step`

type commands struct {
	Up      upCommand      `cmd:"" help:"Run everything here: service, workers, and what they need."`
	Serve   serveCommand   `cmd:"" help:"Serve HTTP on real PostgreSQL, Redis and S3."`
	Worker  workerCommand  `cmd:"" help:"Work what is due on real PostgreSQL, Redis and S3."`
	Migrate migrateCommand `cmd:"" help:"Bring the database's schema up to date."`
	Key     keyCommand     `cmd:"" help:"API keys for machines."`
	User    userCommand    `cmd:"" help:"People who sign in."`
	Verify  verifyCommand  `cmd:"" help:"Check a certificate or a draw's manifest offline, or with --all everything stored."`
	Demo    demoCommand    `cmd:"" help:"Show the whole life of a recording on a service of its own."`
	Bench   benchCommand   `cmd:"" help:"Measure a running service beside its direct limit."`

	Healthcheck healthcheckCommand `cmd:"" help:"Ask a running service whether it is ready."`
	Version     kong.VersionFlag   `help:"Print the version."`
}

const (
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the program without its process: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("earmark"), kong.Description(description), kong.Vars{"version": "earmark " + api.Version},
		kong.Writers(stdout, stderr), kong.UsageOnError(), kong.Exit(func(code int) { exit = code }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(&output{stdout, stderr}),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}))
	if err != nil {
		return fail(stderr, err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	selected, err := parser.Parse(args)
	if exit >= 0 {
		return exit
	}
	if err != nil {
		fmt.Fprintf(stderr, "earmark: %v\nTry `earmark --help`.\n", err)
		return exitUsage
	}
	if err := selected.Run(); err != nil {
		return fail(stderr, err)
	}
	return 0
}

// output is where commands print: results on out, all else on log's side.
type output struct {
	out io.Writer
	err io.Writer
}

// errUsage marks what is wrong with the command line itself.
var errUsage = errors.New("usage")

func fail(stderr io.Writer, err error) int {
	if errors.Is(err, context.Canceled) {
		return exitFailed
	}
	var fields *invalid.Error
	switch {
	case errors.As(err, &fields):
		for _, f := range fields.Fields {
			fmt.Fprintf(stderr, "earmark: %s: %s\n", f.Location, f.Message)
		}
		return exitUsage
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "earmark: %v\n", err)
		return exitUsage
	default:
		fmt.Fprintf(stderr, "earmark: %v\n", err)
		return exitFailed
	}
}

// logger writes for people at a terminal and JSON lines otherwise. What is
// logged without a logger of its own goes there too.
func (o *output) logger() *slog.Logger {
	log := o.newLogger()
	slog.SetDefault(log)
	return log
}

func (o *output) newLogger() *slog.Logger {
	level := slog.LevelInfo
	if os.Getenv("EARMARK_DEBUG") != "" {
		level = slog.LevelDebug
	}
	options := &slog.HandlerOptions{Level: level}
	if f, ok := o.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(o.err, options))
	}
	return slog.New(slog.NewJSONHandler(o.err, options))
}
