package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"earmark/internal/blob"
	"earmark/internal/standalone"
)

// settings are what the environment says; `earmark up` makes what it does not.
type settings struct {
	Data        string `env:"EARMARK_DATA" default:".earmark" type:"path" help:"Where this machine's data lie."`
	DatabaseURL string `env:"EARMARK_DATABASE_URL" help:"PostgreSQL, such as postgres://earmark:secret@db/earmark."`
	RedisURL    string `env:"EARMARK_REDIS_URL" help:"Redis or Valkey, such as redis://redis:6379/0."`
	S3Endpoint  string `name:"s3-endpoint" env:"EARMARK_S3_ENDPOINT" help:"The object store, such as http://minio:9000; without it, objects lie below the data directory."`
	S3Bucket    string `name:"s3-bucket" env:"EARMARK_S3_BUCKET" default:"earmark" help:"Its bucket; made when it is missing."`
	S3AccessKey string `name:"s3-access-key" env:"EARMARK_S3_ACCESS_KEY" help:"Its access key."`
	S3SecretKey string `name:"s3-secret-key" env:"EARMARK_S3_SECRET_KEY" help:"Its secret key."`
	KEK         string `name:"kek" env:"EARMARK_KEK" help:"Key-encryption keys, id:base64[,id:base64…]; the first is in force. Lost, no recording opens again."`

	objectDir string
}

// found fills in where the service of this data directory has its things, for
// commands that work beside it.
func (s settings) found() (settings, error) {
	if s.DatabaseURL != "" {
		return s, nil
	}
	running, err := standalone.Find(s.Data)
	if err != nil {
		return s, err
	}
	return s.of(running)
}

// of takes over what a standalone service has.
func (s settings) of(running standalone.Settings) (settings, error) {
	s.DatabaseURL, s.RedisURL, s.objectDir = running.DatabaseURL, running.RedisURL, running.ObjectDir
	kek, err := os.ReadFile(running.KEKFile)
	if err != nil {
		return s, fmt.Errorf("read the key-encryption key: %w", err)
	}
	s.KEK = strings.TrimSpace(string(kek))
	return s, nil
}

// real says what a service on servers of its own still lacks.
func (s settings) real() error {
	var missing []string
	for name, value := range map[string]string{
		"EARMARK_DATABASE_URL": s.DatabaseURL, "EARMARK_REDIS_URL": s.RedisURL, "EARMARK_KEK": s.KEK,
	} {
		if value == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: set %s, or use `earmark up`, which brings its own", errUsage, strings.Join(missing, ", "))
	}
	return nil
}

func (s settings) store(ctx context.Context) (blob.Store, func() error, error) {
	if s.S3Endpoint == "" {
		dir := s.objectDir
		if dir == "" {
			dir = filepath.Join(s.Data, "objects")
		}
		disk, err := blob.OpenDisk(dir)
		if err != nil {
			return nil, nil, fmt.Errorf("open the object directory: %w", err)
		}
		return disk, disk.Close, nil
	}
	s3, err := blob.OpenS3(ctx, blob.S3Config{
		Endpoint: s.S3Endpoint, Bucket: s.S3Bucket, AccessKey: s.S3AccessKey, SecretKey: s.S3SecretKey, CreateBucket: true,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open the object store: %w", err)
	}
	return s3, func() error { return nil }, nil
}

// whileAlone runs fn on a standalone service's servers, and ends with an error
// when they die under it.
func (s settings) whileAlone(ctx context.Context, log *slog.Logger, fn func(context.Context, settings) error) (err error) {
	alone, err := standalone.Start(ctx, s.Data, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, alone.Close()) }()
	running, err := standalone.Find(s.Data)
	if err != nil {
		return err
	}
	if s, err = s.of(running); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-alone.Done():
			cancel(fmt.Errorf("PostgreSQL ended: %w", alone.Err()))
		case <-ctx.Done():
		}
	}()
	if err := fn(ctx, s); err != nil {
		return err
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}
