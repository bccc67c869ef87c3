package quality

import (
	"embed"
	"encoding/json"
	"fmt"
)

//go:embed examples/*.json
var examples embed.FS

// ExampleForms are two complete forms to begin with: for inbound service
// calls, in Vietnamese and in English.
func ExampleForms() []NewForm {
	return []NewForm{example("call_vi.json"), example("call_en.json")}
}

// example panics when the file, which is part of the program, is broken.
func example(name string) NewForm {
	data, err := examples.ReadFile("examples/" + name)
	if err != nil {
		panic(fmt.Errorf("example form %s: %w", name, err))
	}
	var form NewForm
	if err := json.Unmarshal(data, &form); err != nil {
		panic(fmt.Errorf("example form %s: %w", name, err))
	}
	return form
}
