{{- define "tandem.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tandem.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "tandem.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The operator's objects end in -operator, whatever the release is called. */}}
{{- define "tandem.operatorName" -}}
{{- printf "%s-operator" (include "tandem.fullname" . | trunc 54 | trimSuffix "-") -}}
{{- end -}}

{{/* Of the Service, which may have 63 characters and no dot, of which a release's name may have some. */}}
{{- define "tandem.metricsName" -}}
{{- printf "%s-metrics" (include "tandem.operatorName" . | replace "." "-" | trunc 55 | trimSuffix "-") -}}
{{- end -}}

{{/* Of the whole cluster, where the release's namespace tells one from another. */}}
{{- define "tandem.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "tandem.operatorName" .) -}}
{{- end -}}

{{- define "tandem.issuerDiscoveryName" -}}
{{- printf "%s-keys" (include "tandem.clusterName" .) -}}
{{- end -}}

{{/* On every pod that the operator makes; the same in every release. */}}
{{- define "tandem.managedLabels" -}}
app.kubernetes.io/managed-by: tandem-operator
{{- end -}}

{{/*
The Lease that lets one operator work in a namespace. The same for every release: two releases in one namespace
must not work side by side.
*/}}
{{- define "tandem.leaseName" -}}tandem-operator{{- end -}}

{{- define "tandem.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tandem.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "tandem.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "tandem.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/component" "operator"
  "app.kubernetes.io/part-of" "tandem"
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/version" .Chart.AppVersion
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
-}}
{{- merge $own .Values.commonLabels | toYaml -}}
{{- end -}}

{{/* Without version and chart: those would restart the operator for nothing. */}}
{{- define "tandem.podLabels" -}}
{{- $own := dict "app.kubernetes.io/part-of" "tandem" -}}
{{- merge (include "tandem.selectorLabels" . | fromYaml) $own .Values.commonLabels | toYaml -}}
{{- end -}}

{{- define "tandem.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tandem.operatorName" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tandem.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}
