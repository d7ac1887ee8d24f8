{{/* Threads of each process: as many as its share of the pod has whole CPUs, unless a number is given. */}}
{{- define "dask.threads" -}}
{{- $cpus := include "common.quantity" (dict "quantity" .Values.resources.limits.cpu "field" "resources.limits.cpu") | float64 -}}
{{- .Values.nthreads | int | default (divf $cpus .Values.nworkers | floor | max 1) | int -}}
{{- end -}}

{{/*
Bytes for --memory-limit of each process: nine tenths of its share of the pod's, the rest is for what Dask does not count
(the page cache of spilled data, subprocesses). A worker that imported nothing is 100 MiB already.
*/}}
{{- define "dask.memory" -}}
{{- $limit := .Values.resources.limits.memory -}}
{{- $processes := int .Values.nworkers -}}
{{- $bytes := include "common.bytes" (dict "quantity" $limit "field" "resources.limits.memory") -}}
{{- include "common.leastMemory" (dict "bytes" $bytes "given" $limit "least" (mul 256 $processes) "field" "resources.limits.memory"
    "why" (ternary "a Dask worker" (printf "%d Dask workers (nworkers)" $processes) (eq $processes 1))) -}}
{{- mulf (divf (float64 $bytes) $processes) 0.9 | floor | printf "%.0f" -}}
{{- end -}}

{{/*
Resources of each process's container: an equal share of the pod's, so that the sum is what the user has set. What comes
in pieces, such as GPUs, is shared out piece by piece.
*/}}
{{- define "dask.resources" -}}
{{- $processes := int .Values.nworkers -}}
{{- $given := include "common.resources" .Values.resources | fromYaml -}}
{{- if gt $processes 1 -}}
{{- range $which, $amounts := $given -}}
{{- range $name, $quantity := $amounts -}}
{{- $field := printf "resources.%s.%s" $which $name -}}
{{- $number := include "common.quantity" (dict "quantity" $quantity "field" $field) | float64 -}}
{{- if eq $name "cpu" -}}
{{- $_ := set $amounts $name (printf "%dm" (divf (mulf $number 1000) $processes | floor | max 1 | int64)) -}}
{{- else if or (has $name (list "memory" "ephemeral-storage")) (hasPrefix "hugepages-" $name) -}}
{{- $_ := set $amounts $name (divf $number $processes | floor | printf "%.0f") -}}
{{- else if mod (int64 $number) $processes -}}
{{- fail (printf "%s: %v can't be shared out among %d processes (nworkers): use a multiple" $field $quantity $processes) -}}
{{- else -}}
{{- $_ := set $amounts $name (div (int64 $number) $processes | toString) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $given -}}
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

{{/*
What each process may spill, for distributed.worker.memory.max-spill: its share of nine tenths of the volume, because a
pod that fills an emptyDir is evicted, and files take more room than what is in them. Empty where the volume has no size.
*/}}
{{- define "dask.maxSpill" -}}
{{- with .Values.spill.size -}}
{{- mulf (divf (include "common.bytes" (dict "quantity" . "field" "spill.size") | float64) $.Values.nworkers) 0.9 | floor | printf "%.0f" -}}
{{- end -}}
{{- end -}}

{{- define "dask.spillVolume" -}}
{{- with .Values.spill -}}
{{- if and .storageClassName (not .size) -}}
{{- fail "spill.size: a claim needs a size: say how large each worker's volume is, such as 20Gi" -}}
{{- end -}}
{{- if .storageClassName -}}
ephemeral:
  volumeClaimTemplate:
    spec:
      accessModes: [ReadWriteOnce]
      storageClassName: {{ quote .storageClassName }}
      resources:
        requests: {storage: {{ .size }}}
{{- else if .size -}}
emptyDir: {sizeLimit: {{ .size }}}
{{- else -}}
emptyDir: {}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Fails unless thresholds rise: Dask spills at spill until it is below target, pauses at pause and ends at terminate.
Argument: the value `config`. Those not given are Dask's own, except terminate, which nobody sees to by default.
*/}}
{{- define "dask.checkThresholds" -}}
{{- $given := dig "distributed" "worker" "memory" dict . -}}
{{- $before := "" -}}
{{- $least := 0.0 -}}
{{- range list (list "target" 0.6) (list "spill" 0.7) (list "pause" 0.8) (list "terminate" false) -}}
{{- $key := first . -}}
{{- $value := hasKey $given $key | ternary (get $given $key) (last .) -}}
{{- if $value -}}
{{- if lt (float64 $value) $least -}}
{{- fail (printf "config: distributed.worker.memory.%s is %v, below %s: they must rise, target, spill, pause, terminate (by default 0.6, 0.7, 0.8, false)" $key $value $before) -}}
{{- end -}}
{{- $least = float64 $value -}}
{{- $before = printf "%s, %v" $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
