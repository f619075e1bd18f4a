package openapitest

import (
	"net/url"
	"strings"

	"github.com/getkin/kin-openapi/routers"
)

// find returns the operation that a request meets, and the values in its
// path. Without one, known says whether the path takes another method. A
// segment that is spelled out wins over a parameter.
func (d *Document) find(method, path string) (route *routers.Route, params map[string]string, known bool) {
	for pattern, item := range d.spec.Paths.Map() {
		values, ok := match(pattern, path)
		if !ok {
			continue
		}
		known = true
		operation := item.GetOperation(method)
		if operation == nil || route != nil && len(params) <= len(values) {
			continue
		}
		params = values
		route = &routers.Route{Spec: builtIn(), Path: pattern, PathItem: item, Method: method, Operation: operation}
	}
	return route, params, known
}

// match compares segments as they were sent: an escaped slash is no boundary.
func match(pattern, path string) (map[string]string, bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	values := map[string]string{}
	for i, segment := range want {
		if !strings.HasPrefix(segment, "{") {
			if segment != got[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(got[i])
		if err != nil || value == "" {
			return nil, false
		}
		values[strings.Trim(segment, "{}")] = value
	}
	return values, true
}

// Pattern is a path of gin's (:name) in the document's spelling ({name}).
func Pattern(ginPath string) string {
	segments := strings.Split(ginPath, "/")
	for i, s := range segments {
		if name, ok := strings.CutPrefix(s, ":"); ok {
			segments[i] = "{" + name + "}"
		}
	}
	return strings.Join(segments, "/")
}
