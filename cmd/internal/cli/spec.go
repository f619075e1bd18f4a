package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"roost/api"
)

// maxInputBytes bounds what is read of a file: the server takes no body over
// api.MaxBodyBytes, and quoting makes text longer, never shorter.
const maxInputBytes = api.MaxBodyBytes

// sizeFlags are what a spec and a patch share.
type sizeFlags struct {
	file, instanceType, compose, preLaunch, image string

	vcpu, memory, disk int64
}

func (f *sizeFlags) bind(cmd *cobra.Command, fileHelp string) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&f.file, "file", "f", "", fileHelp)
	flags.StringVar(&f.instanceType, "instance-type", "", "`SIZE`, such as tdx.small")
	flags.StringVar(&f.compose, "compose", "", "Docker Compose `FILE` that the CVM runs (- is stdin)")
	flags.StringVar(&f.preLaunch, "pre-launch-script", "", "`FILE` with a script that runs before the containers")
	flags.StringVar(&f.image, "image", "", "guest `IMAGE`, such as dstack-0.5.7")
	flags.Int64Var(&f.vcpu, "vcpu", 0, "`NUMBER` of virtual CPUs")
	flags.Int64Var(&f.memory, "memory", 0, "memory in `MB`")
	flags.Int64Var(&f.disk, "disk-size", 0, "disk in `GB`")
}

// specFlags describe a CVM to be made.
type specFlags struct {
	sizeFlags

	region, encryptedEnv string

	listed  bool
	envKeys []string
}

func (f *specFlags) bind(cmd *cobra.Command) {
	f.sizeFlags.bind(cmd, "`FILE` with a Spec as YAML or JSON (- is stdin)")
	flags := cmd.Flags()
	flags.StringVar(&f.region, "region", "", "`REGION`, such as local-1")
	flags.BoolVar(&f.listed, "listed", false, "list the app in public")
	flags.StringArrayVar(&f.envKeys, "env-key", nil, "`NAME` of an encrypted variable; once for each")
	flags.StringVar(&f.encryptedEnv, "encrypted-env-file", "", "`FILE` with the variables, encrypted for the app, in hex (- is stdin)")
}

// spec puts file and flags together. What only the server can judge, such as
// which instance types there are, is left to it.
func (f *specFlags) spec(s *session) (api.Spec, []input, error) {
	r := reader{s: s}
	var spec api.Spec
	r.document("file", f.file, &spec)
	if len(s.args) > 0 {
		spec.Name = s.args[0]
	}
	given := s.cmd.Flags()
	set(given, "instance-type", &spec.InstanceType, f.instanceType)
	setPtr(given, "vcpu", &spec.VCPU, f.vcpu)
	setPtr(given, "memory", &spec.Memory, f.memory)
	setPtr(given, "disk-size", &spec.DiskSize, f.disk)
	setPtr(given, "image", &spec.Image, f.image)
	setPtr(given, "region", &spec.Region, f.region)
	setPtr(given, "listed", &spec.Listed, f.listed)
	set(given, "env-key", &spec.EnvKeys, f.envKeys)
	if given.Changed("encrypted-env-file") {
		setPtr(given, "encrypted-env-file", &spec.EncryptedEnv, strings.TrimSpace(r.text("encrypted-env-file", f.encryptedEnv)))
	}
	f.composeFile(given, &r, &spec.ComposeFile)
	if r.err != nil {
		return spec, nil, r.err
	}
	return spec, r.inputs, required(spec)
}

// composeFile sets the members of compose_file that have flags.
func (f *sizeFlags) composeFile(given *pflag.FlagSet, r *reader, compose **api.ComposeFile) {
	if !given.Changed("compose") && !given.Changed("pre-launch-script") {
		return
	}
	if *compose == nil {
		*compose = &api.ComposeFile{}
	}
	if given.Changed("compose") {
		(*compose).DockerComposeFile = r.text("compose", f.compose)
	}
	if given.Changed("pre-launch-script") {
		script := r.text("pre-launch-script", f.preLaunch)
		(*compose).PreLaunchScript = &script
	}
}

// required checks here what no server can have a default for.
func required(spec api.Spec) error {
	switch {
	case spec.Name == "":
		return usagef("NAME is missing: give it as an argument, or as name in the file of --file")
	case spec.InstanceType == "":
		return usagef("--instance-type is required, or instance_type in the file of --file")
	case spec.ComposeFile == nil || spec.ComposeFile.DockerComposeFile == "":
		return usagef("--compose is required and must not be empty, or compose_file.docker_compose_file in the file of --file")
	}
	return nil
}

// patchFlags describe a change.
type patchFlags struct{ sizeFlags }

func (f *patchFlags) bind(cmd *cobra.Command) {
	f.sizeFlags.bind(cmd, "`FILE` with the members to change as YAML or JSON (- is stdin)")
}

func (f *patchFlags) patch(s *session) (api.PatchCVM, []input, error) {
	r := reader{s: s}
	var patch api.PatchCVM
	r.document("file", f.file, &patch)
	given := s.cmd.Flags()
	setPtr(given, "instance-type", &patch.InstanceType, f.instanceType)
	setPtr(given, "vcpu", &patch.VCPU, f.vcpu)
	setPtr(given, "memory", &patch.Memory, f.memory)
	setPtr(given, "disk-size", &patch.DiskSize, f.disk)
	setPtr(given, "image", &patch.BaseImage, f.image)
	f.composeFile(given, &r, &patch.ComposeFile)
	if r.err == nil && patch == (api.PatchCVM{}) {
		r.err = usagef("nothing to change: give --file or a flag for what is to change, such as --instance-type")
	}
	return patch, r.inputs, r.err
}

func set[T any](given *pflag.FlagSet, flag string, member *T, value T) {
	if given.Changed(flag) {
		*member = value
	}
}

func setPtr[T any](given *pflag.FlagSet, flag string, member **T, value T) {
	if given.Changed(flag) {
		*member = &value
	}
}

// reader reads the files that flags name, and remembers what it cannot read
// again. After an error it reads nothing.
type reader struct {
	s      *session
	inputs []input
	stdin  string // the flag that took stdin
	err    error
}

func (r *reader) text(flag, path string) string {
	if r.err != nil {
		return ""
	}
	content, again, err := r.read(flag, path)
	if err != nil {
		r.err = err
		return ""
	}
	r.inputs = append(r.inputs, input{flag: flag, content: content, again: again})
	return string(content)
}

func (r *reader) read(flag, path string) (content []byte, again bool, err error) {
	from := r.s.env.In
	switch {
	case path == "-" && r.stdin != "":
		return nil, false, usagef("--%s: stdin is read for --%s already", flag, r.stdin)
	case path == "-":
		r.stdin = flag
	default:
		file, err := os.Open(path) //nolint:gosec // the user's own file
		if err != nil {
			return nil, false, usagef("--%s: %v", flag, err)
		}
		defer file.Close() //nolint:errcheck // it is only read
		info, err := file.Stat()
		again, from = err == nil && info.Mode().IsRegular(), file
	}
	content, err = io.ReadAll(io.LimitReader(from, maxInputBytes+1))
	if err != nil {
		return nil, false, usagef("--%s: %v", flag, err)
	}
	if len(content) > maxInputBytes {
		return nil, false, usagef("--%s: it is larger than %d bytes", flag, maxInputBytes)
	}
	return content, again, nil
}

// document decodes YAML or JSON as the server would: a member that it does not
// know is an error, not a setting that is silently not made.
func (r *reader) document(flag, path string, into any) {
	if !r.s.cmd.Flags().Changed(flag) {
		return
	}
	text := []byte(r.text(flag, path))
	if r.err != nil {
		return
	}
	if err := decode(text, into); err != nil {
		r.err = usagef("--%s: %v", flag, err)
	}
}

func decode(text []byte, into any) error {
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		var err error
		if text, err = yaml.YAMLToJSON(text); err != nil {
			return fmt.Errorf("it is neither YAML nor JSON: %w", err)
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if decoder.More() {
		return errors.New("it holds more than one document")
	}
	return nil
}

// optional is takes for one argument that may be absent.
func optional(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return takes(name)(cmd, args)
	}
}
