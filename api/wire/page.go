package wire

import (
	"fmt"
	"html"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"roost/api"
)

const problemPage = `<!doctype html>
<meta charset="utf-8">
<title>%[1]s</title>
<h1>%[1]s</h1>
<p>Status %[2]s.</p>
<p>%[3]s</p>
<p>%[4]s</p>
`

// PathProblem is where a problem's type leads.
const PathProblem = "/problems/:slug"

// Problem serves the page at PathProblem.
func Problem(c *gin.Context) error {
	var codes []api.Code
	var statuses []string
	for _, code := range api.Codes() {
		if code.Slug() == c.Param("slug") {
			codes, statuses = append(codes, code), append(statuses, strconv.Itoa(code.Status()))
		}
	}
	if codes == nil {
		return api.Errorf(api.CodeNotFound, "there is no such problem type.")
	}
	repeat := "Repeating the same request will be answered the same."
	if codes[0].Retryable() {
		repeat = "It is safe to send the same request again, with the same Idempotency-Key, after Retry-After."
	}
	c.Data(http.StatusOK, "text/html; charset=utf-8", fmt.Appendf(nil, problemPage,
		html.EscapeString(codes[0].Title()), strings.Join(statuses, " or "), html.EscapeString(codes[0].Advice()), repeat))
	return nil
}
