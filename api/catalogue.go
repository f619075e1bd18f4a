package api

// The catalogue: what a Spec may name. Requests are checked against these
// functions and the catalogue's routes answer them, so the two cannot differ.

// InstanceType is a size that a CVM can have.
type InstanceType struct {
	ID       string `json:"id"`
	VCPU     int64  `json:"vcpu"`
	MemoryMB int64  `json:"memory"`    // MB
	DiskGB   int64  `json:"disk_size"` // GB, the default disk
}

// InstanceTypes is the catalogue of sizes, smallest first.
func InstanceTypes() []InstanceType {
	return []InstanceType{
		{ID: "tdx.small", VCPU: 1, MemoryMB: 2048, DiskGB: 20},
		{ID: "tdx.medium", VCPU: 2, MemoryMB: 4096, DiskGB: 40},
		{ID: "tdx.large", VCPU: 4, MemoryMB: 8192, DiskGB: 80},
	}
}

// Image is a guest image that a CVM can start from.
type Image struct {
	Name        string  `json:"name"`
	Version     [3]int  `json:"version"` // major, minor, patch
	IsDev       bool    `json:"is_dev"`
	OSImageHash *string `json:"os_image_hash"` // null: not measured
}

// Images is the catalogue of guest images, oldest first.
func Images() []Image {
	return []Image{
		{Name: DefaultImage, Version: [3]int{0, 5, 7}},
		{Name: "dstack-0.5.8", Version: [3]int{0, 5, 8}},
	}
}

// Regions is the catalogue of places.
func Regions() []string { return []string{DefaultRegion} }

func instanceType(id string) InstanceType {
	for _, t := range InstanceTypes() {
		if t.ID == id {
			return t
		}
	}
	return InstanceType{}
}

func instanceTypeNames() []string {
	var names []string
	for _, t := range InstanceTypes() {
		names = append(names, t.ID)
	}
	return names
}

func imageNames() []string {
	var names []string
	for _, i := range Images() {
		names = append(names, i.Name)
	}
	return names
}
