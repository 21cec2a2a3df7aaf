module tandem.dev/local/prometheus-operator

go 1.26.0

// Only its CustomResourceDefinitions are used: nothing is built.
require github.com/prometheus-operator/prometheus-operator v0.85.0
