{{- define "dask.threads" -}}
{{- include "common.cpus" (dict "quantity" .Values.resources.limits.cpu "field" "resources.limits.cpu") -}}
{{- end -}}

{{/*
Bytes for --memory-limit: nine tenths of the pod's, the rest is for what Dask does not count
(the page cache of spilled data, subprocesses). A worker that imported nothing is 100 MiB already.
*/}}
{{- define "dask.memory" -}}
{{- $limit := .Values.resources.limits.memory -}}
{{- $bytes := include "common.bytes" (dict "quantity" $limit "field" "resources.limits.memory") -}}
{{- include "common.leastMemory" (dict "bytes" $bytes "given" $limit "least" 256 "field" "resources.limits.memory" "why" "a Dask worker") -}}
{{- mulf (float64 $bytes) 0.9 | floor | printf "%.0f" -}}
{{- end -}}

{{/* Abstract resources as `dask worker --resources` reads them, such as "GPU=1 SSD=2". */}}
{{- define "dask.workerResources" -}}
{{- $pairs := list -}}
{{- range $name, $amount := . -}}{{- $pairs = append $pairs (printf "%s=%s" $name (toJson $amount)) -}}{{- end -}}
{{- join " " $pairs -}}
{{- end -}}

{{- define "dask.address" -}}
tcp://{{ include "common.cluster" . }}-scheduler.{{ .Release.Namespace }}.svc:8786
{{- end -}}
