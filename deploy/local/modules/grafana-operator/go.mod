module tandem.dev/local/grafana-operator

go 1.26.0

// Only its CustomResourceDefinitions are used: nothing is built.
require github.com/grafana/grafana-operator/v5 v5.18.0
