package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"

	"earmark/internal/bench"
)

type benchCommand struct {
	Works []string `arg:"" optional:"" help:"ingest, play, search, draw or purge; all when none is named."`
	JSON  bool     `name:"json" help:"Print each measurement as a line of JSON instead of the table."`

	Results     string       `default:".bench/results.jsonl" help:"The file to which the same lines are appended."`
	Rounds      int          `default:"3" help:"How often each is measured, turn about with its direct limit."`
	Sizes       []bench.Size `default:"100K,1M,5M,20M" help:"ingest: sizes of recordings."`
	Concurrency []int        `default:"1,8,32" help:"ingest: how many uploads at once."`
	SliceBytes  bench.Size   `default:"100M" help:"ingest: about how much is sent between two glances at the clock."`
	SlowUploads int          `default:"200" help:"ingest: how many slow uploads memory is measured at."`
	SlowSeconds int          `default:"8" help:"ingest: how long each of them takes."`
	Ranges      int          `default:"800" help:"play: ranges a round."`
	Rows        int          `default:"200000" help:"search: how many interactions; 5000000 take half an hour to make."`
	Requests    int          `default:"200" help:"search: requests for each filter."`
	Eligible    int          `default:"100000" help:"draw: how many are drawn from."`
	Agents      int          `default:"500" help:"draw: of how many agents."`
	Objects     int          `default:"2000" help:"purge: how many."`

	Server    string `placeholder:"URL" help:"Measure ingest or play on this service, which runs already, instead of one of its own."`
	Key       string `env:"EARMARK_BENCH_KEY" help:"Its uploader's key, with a basis that covers quality assurance."`
	ListenKey string `env:"EARMARK_BENCH_LISTEN_KEY" help:"A reviewer's key of it: everything is read back."`

	Database    string `hidden:"" env:"EARMARK_TEST_DATABASE_URL"`
	Redis       string `hidden:"" env:"EARMARK_TEST_REDIS_URL"`
	S3Endpoint  string `hidden:"" name:"s3-endpoint" env:"EARMARK_TEST_S3_ENDPOINT"`
	S3AccessKey string `hidden:"" name:"s3-access-key" env:"EARMARK_TEST_S3_ACCESS_KEY"`
	S3SecretKey string `hidden:"" name:"s3-secret-key" env:"EARMARK_TEST_S3_SECRET_KEY"`
}

func (c *benchCommand) Help() string {
	return `Each figure stands beside its direct limit, measured in the same run on the same servers:
for ingest PutObject of the same bytes, for play GetObject of the same range, for search and
draw the bare SQL, for purge bare multi-deletes. All that was loaded is read back and compared.

It wants servers that it may fill, in EARMARK_TEST_DATABASE_URL, _REDIS_URL, _S3_ENDPOINT,
_S3_ACCESS_KEY and _S3_SECRET_KEY, and starts them by itself as

  make bench
  make bench WORK=ingest

A service that runs already is measured on the object store that it uses:

  earmark bench ingest --server http://127.0.0.1:8080 --key ek_… --listen-key ek_…`
}

// Run measures.
func (c *benchCommand) Run(ctx context.Context, o *output) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	options := bench.Options{
		Works: c.Works, Program: program, Results: c.Results, Out: o.out, JSON: c.JSON, Progress: o.err,
		Servers: bench.Servers{
			DatabaseURL: c.Database, RedisURL: c.Redis,
			S3Endpoint: c.S3Endpoint, S3AccessKey: c.S3AccessKey, S3SecretKey: c.S3SecretKey,
		},
		Load: bench.Load{
			Rounds: c.Rounds, Sizes: c.Sizes, Concurrency: c.Concurrency, SliceBytes: c.SliceBytes,
			SlowUploads: c.SlowUploads, SlowSeconds: c.SlowSeconds, Ranges: c.Ranges,
			Rows: c.Rows, Requests: c.Requests, Eligible: c.Eligible, Agents: c.Agents, Objects: c.Objects,
		},
	}
	if c.Server != "" {
		options.Running = &bench.Running{URL: c.Server, Key: c.Key, ListenKey: c.ListenKey}
	}
	if f, ok := o.err.(*os.File); ok {
		options.Terminal = term.IsTerminal(int(f.Fd()))
	}
	if err := bench.Run(ctx, options); err != nil {
		if errors.Is(err, bench.ErrUsage) {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		return err
	}
	return nil
}
