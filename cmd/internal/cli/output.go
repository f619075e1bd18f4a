package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml"

	"roost/api"
)

// The forms of output.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

func outputs() []string { return []string{outputTable, outputJSON, outputYAML} }

// rendering is data in all its forms.
type rendering struct {
	value any      // as the API spells it; JSON and YAML show it whole
	ids   []string // for --quiet
	table table
	below *table // a second one, after an empty line
}

// table is columns under a head, or without one: names and their values.
type table struct {
	head []string
	rows [][]cell
}

// cell is a text in its tone.
type cell struct {
	text string
	tone tone
}

func plain(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, text := range texts {
		row[i] = cell{text: text}
	}
	return row
}

// tone is what a text says about the state of things.
type tone string

// The tones, by the parameter that selects them in a terminal (ECMA-48 SGR).
const (
	toneNone tone = ""
	toneGood tone = "32"
	toneBusy tone = "33"
	toneBad  tone = "31"
	toneHead tone = "1"
)

const toneEnd = "\x1b[0m"

func (t tone) begin() string { return "\x1b[" + string(t) + "m" }

func (t tone) paint(text string, colours bool) string {
	if !colours || t == toneNone || text == "" {
		return text
	}
	return t.begin() + text + toneEnd
}

// print writes data to stdout in the form that was asked for.
func (t *tool) print(r rendering) error {
	var out bytes.Buffer
	var err error
	switch {
	case t.flags.quiet:
		for _, id := range r.ids {
			out.WriteString(id + "\n")
		}
	case t.flags.output == outputJSON:
		err = writeJSON(&out, r.value)
	case t.flags.output == outputYAML:
		err = writeYAML(&out, r.value)
	default:
		r.table.write(&out, t.env.colours(t.env.OutTerminal))
		if r.below != nil {
			out.WriteByte('\n')
			r.below.write(&out, t.env.colours(t.env.OutTerminal))
		}
	}
	if err != nil {
		return err
	}
	if _, err := t.env.Out.Write(out.Bytes()); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	return nil
}

// writeYAML says the same as writeJSON, member by member.
func writeYAML(w io.Writer, value any) error {
	var document bytes.Buffer
	if err := writeJSON(&document, value); err != nil {
		return err
	}
	text, err := yaml.JSONToYAML(document.Bytes())
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	return nil
}

// columnGap separates columns.
const columnGap = "  "

// write aligns the columns. Widths are counted without colours.
func (t table) write(w *bytes.Buffer, colours bool) {
	rows := t.rows
	if t.head != nil {
		head := plain(t.head...)
		for i := range head {
			head[i].tone = toneHead
		}
		rows = append([][]cell{head}, rows...)
	}
	widths := columnWidths(rows)
	for _, row := range rows {
		for i, c := range row {
			w.WriteString(c.tone.paint(c.text, colours))
			if i < len(row)-1 {
				w.WriteString(strings.Repeat(" ", widths[i]-len([]rune(c.text))) + columnGap)
			}
		}
		w.WriteByte('\n')
	}
}

func columnWidths(rows [][]cell) []int {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(c.text)))
		}
	}
	return widths
}

// state shows a status in its tone.
func state(status string) cell {
	switch status {
	case string(api.StatusRunning), string(api.OperationSucceeded), string(api.FirewallActive):
		return cell{status, toneGood}
	case string(api.StatusFailed), string(api.OperationCanceled):
		return cell{status, toneBad}
	case string(api.StatusStopped), string(api.StatusDeleted), "":
		return cell{text: status}
	}
	return cell{status, toneBusy}
}

// dash stands for what is not there.
func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// reason shows why something failed.
func reason(e *api.ResourceError) string {
	if e == nil {
		return "-"
	}
	if e.SupersededBy != "" {
		return fmt.Sprintf("%s by %s: %s", e.Code, e.SupersededBy, e.Message)
	}
	return e.Code + ": " + e.Message
}
