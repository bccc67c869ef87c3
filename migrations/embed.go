// Package migrations holds the schema, as numbered SQL files that goose runs
// in order. A file that has landed is never edited: a change is a new file.
package migrations

import "embed"

// Files are the migrations, in goose's SQL format.
//
//go:embed *.sql
var Files embed.FS
