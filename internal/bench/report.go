package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"text/tabwriter"
	"time"
)

// Measurement is one line of the results. What does not apply is left out.
type Measurement struct {
	Work string `json:"work"`
	// Case tells the measurements of one work apart.
	Case string `json:"case,omitempty"`
	// Bytes are of one recording or range, Rows those of the archive.
	Bytes       int64 `json:"bytes,omitempty"`
	Concurrency int   `json:"concurrency,omitempty"`
	Rows        int   `json:"rows,omitempty"`
	// Direct and Earmark are medians over the rounds, in Unit.
	Direct  float64 `json:"direct,omitempty"`
	Earmark float64 `json:"earmark,omitempty"`
	Unit    string  `json:"unit,omitempty"`
	// Ratio is the share of the direct limit that was reached, whether the unit
	// is a rate or a time: 1 is as fast as direct, 0.5 half as fast. It is the
	// median of the rounds' own ratios.
	Ratio float64 `json:"ratio,omitempty"`
	// MemoryBytes are above what the service held when it was idle.
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	// P50MS and P99MS are of Earmark's single answers.
	P50MS float64 `json:"p50_ms,omitempty"`
	P99MS float64 `json:"p99_ms,omitempty"`

	Time time.Time `json:"time"`
	CPUs int       `json:"cpus"`
	Go   string    `json:"go"`
}

// rates sets what two contenders reached in each round, the more the better.
func (m Measurement) rates(direct, earmark []float64, unit string) Measurement {
	m.Direct, m.Earmark, m.Unit = round(median(direct)), round(median(earmark)), unit
	m.Ratio = round(medianRatio(earmark, direct))
	return m
}

// times sets how long two contenders took in each round, the less the better.
func (m Measurement) times(direct, earmark []float64, unit string) Measurement {
	m.Direct, m.Earmark, m.Unit = round(median(direct)), round(median(earmark)), unit
	m.Ratio = round(medianRatio(direct, earmark))
	return m
}

// round keeps three significant digits, which is more than two runs agree on.
func round(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0
	}
	scale := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// report keeps the measurements and shows them.
type report struct {
	out  io.Writer
	json bool
	file *os.File
	all  []Measurement
}

func openReport(o Options) (*report, error) {
	r := &report{out: o.Out, json: o.JSON}
	if o.Results == "" {
		return r, nil
	}
	if err := os.MkdirAll(filepath.Dir(o.Results), 0o750); err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	var err error
	if r.file, err = os.OpenFile(o.Results, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	return r, nil
}

func (r *report) add(m Measurement) error {
	m.Time, m.CPUs, m.Go = time.Now().UTC().Truncate(time.Second), runtime.NumCPU(), runtime.Version()
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	r.all = append(r.all, m)
	if r.json {
		if _, err := r.out.Write(line); err != nil {
			return err
		}
	}
	if r.file == nil {
		return nil
	}
	_, err = r.file.Write(line)
	return err
}

// close prints the table and closes the file.
func (r *report) close() error {
	var errs []error
	if !r.json && len(r.all) > 0 {
		errs = append(errs, r.table())
	}
	if r.file != nil {
		errs = append(errs, r.file.Close())
	}
	return errors.Join(errs...)
}

func (r *report) table() error {
	fmt.Fprintf(r.out, "\n%d processors, %s. Ratio: the share of the direct limit that was reached.\n\n", runtime.NumCPU(), runtime.Version())
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "work\tcase\tsize\tat once\trows\tdirect\tearmark\tratio\tunit\tp50 ms\tp99 ms\tmemory\t")
	for _, m := range r.all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", m.Work, m.Case, sizeCell(m.Bytes), cell(m.Concurrency), cell(m.Rows),
			cell(m.Direct), cell(m.Earmark), ratioCell(m.Ratio), m.Unit, cell(m.P50MS), cell(m.P99MS), memoryCell(m.MemoryBytes))
	}
	return w.Flush()
}

func cell[T int | float64](v T) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprint(v)
}

func ratioCell(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", v)
}

func sizeCell(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return Size(bytes).String()
}

func memoryCell(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
}
