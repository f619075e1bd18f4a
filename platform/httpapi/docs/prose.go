package docs

import "strings"

// block is a heading, a paragraph or a list of the document's descriptions,
// which use that much of CommonMark and no more.
type block struct {
	Heading   []span
	Paragraph []span
	List      [][]span
}

// span is a run of text in one style, or a link to a schema. It is plain text
// to the template, which escapes it: a description cannot bring HTML along.
type span struct {
	Text   string
	Code   bool
	Strong bool
	Em     bool
	Schema string // the name of the schema that it leads to
}

func prose(text string) []block {
	var blocks []block
	for chunk := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		chunk = strings.TrimSpace(chunk)
		heading, isHeading := strings.CutPrefix(chunk, "## ")
		switch {
		case chunk == "":
		case isHeading:
			blocks = append(blocks, block{Heading: spans(heading)})
		case strings.HasPrefix(chunk, "- "):
			blocks = append(blocks, block{List: list(chunk)})
		default:
			blocks = append(blocks, block{Paragraph: spans(chunk)})
		}
	}
	return blocks
}

func list(chunk string) [][]span {
	var items [][]span
	for item := range strings.SplitSeq("\n"+chunk, "\n- ") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, spans(item))
		}
	}
	return items
}

// spans finds `code`, **strong** and *emphasis*. A mark that is never closed is
// itself.
func spans(text string) []span {
	text = strings.Join(strings.Fields(text), " ")
	var out []span
	for text != "" {
		at := strings.IndexAny(text, "`*")
		if at < 0 {
			break
		}
		mark := text[at : at+1]
		if strings.HasPrefix(text[at:], "**") {
			mark = "**"
		}
		inside, rest, closed := strings.Cut(text[at+len(mark):], mark)
		if !closed || inside == "" {
			break
		}
		if at > 0 {
			out = append(out, span{Text: text[:at]})
		}
		out = append(out, span{Text: inside, Code: mark == "`", Strong: mark == "**", Em: mark == "*"})
		text = rest
	}
	if text != "" {
		out = append(out, span{Text: text})
	}
	return out
}
