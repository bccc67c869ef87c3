package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
)

// The scripts below assets/dist are built from web/; without them the pages
// work all the same.
//
//go:embed assets
var assetFiles embed.FS

type asset struct {
	data      []byte
	mediaType string
	hash      string
}

// assets are the static files by name.
type assets map[string]asset

var mediaTypes = map[string]string{
	"css": "text/css; charset=utf-8",
	"js":  "text/javascript; charset=utf-8",
	"svg": "image/svg+xml",
}

func readAssets() (assets, error) {
	all := assets{}
	err := fs.WalkDir(assetFiles, "assets", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := assetFiles.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		name := strings.TrimPrefix(path, "assets/")
		all[name] = asset{data, mediaTypes[name[strings.LastIndex(name, ".")+1:]], hex.EncodeToString(sum[:8])}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the static files: %w", err)
	}
	return all, nil
}

// address is where a page finds a file; empty when it was not built.
func (a assets) address(name string) string {
	file, ok := a[name]
	if !ok {
		return ""
	}
	return "/assets/" + name + "?v=" + file.hash
}

// asset serves a static file. An address with its hash never changes.
func (c *Console) asset(v *visit) error {
	file, ok := c.assets[strings.TrimPrefix(v.Param("file"), "/")]
	if !ok || file.mediaType == "" {
		return errNoPage
	}
	tag := `"` + file.hash + `"`
	v.Header("ETag", tag)
	if v.Query("v") == file.hash {
		v.Header("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		v.Header("Cache-Control", "no-cache")
	}
	if v.GetHeader("If-None-Match") == tag {
		v.Status(http.StatusNotModified)
		return nil
	}
	v.Data(http.StatusOK, file.mediaType, file.data)
	return nil
}
