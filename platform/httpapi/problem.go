package httpapi

import (
	"fmt"
	"html"
	"net/http"

	"github.com/gin-gonic/gin"

	"roost/api"
)

// problem serves the page that a problem's type names.
func (s *server) problem(c *gin.Context) error {
	for _, code := range api.Codes() {
		if code.Slug() != c.Param("slug") {
			continue
		}
		repeat := "Repeating the same request will be answered the same."
		if code.Retryable() {
			repeat = "It is safe to send the same request again, with the same Idempotency-Key, after Retry-After."
		}
		c.Data(http.StatusOK, "text/html; charset=utf-8", fmt.Appendf(nil,
			"<!doctype html><title>%[1]s</title><h1>%[1]s</h1><p>Status %[2]d.</p><p>%[3]s</p><p>%[4]s</p>\n",
			html.EscapeString(code.Title()), code.Status(), html.EscapeString(code.Advice()), repeat))
		return nil
	}
	return api.Errorf(api.CodeNotFound, "there is no such problem type.")
}
