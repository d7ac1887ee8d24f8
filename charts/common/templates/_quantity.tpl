{{/*
A Kubernetes quantity as a float, printed so that float64 reads it back.
Decimal, scientific (1e3) and suffixed (m, k, M, Gi ...) forms, as strings or as YAML numbers.
Arguments: quantity, field (for the message).
*/}}
{{- define "common.quantity" -}}
{{- $text := toString .quantity -}}
{{- if not (regexMatch "^[+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?$" $text) -}}
{{- fail (printf "%s: %q is not a positive quantity such as 500m, 2 or 1.5Gi" .field $text) -}}
{{- end -}}
{{- $scale := dict "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18
    "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{- $suffix := regexFind "([numkMGTPE]|[KMGTPE]i)$" $text -}}
{{- $number := float64 (trimSuffix $suffix $text) -}}
{{- if $suffix -}}
{{- $number = mulf $number (get $scale $suffix) -}}
{{- end -}}
{{- printf "%.9f" $number -}}
{{- end -}}

{{/* A memory quantity in bytes, rounded down. Arguments: quantity, field. */}}
{{- define "common.bytes" -}}
{{- include "common.quantity" . | float64 | floor | printf "%.0f" -}}
{{- end -}}

{{/*
Whole CPUs that work may use: rounded down so that threads never outnumber the CPUs paid for, and at least one.
Arguments: quantity, field.
*/}}
{{- define "common.cpus" -}}
{{- include "common.quantity" . | float64 | floor | max 1 | int -}}
{{- end -}}

{{/* Fails when a memory limit is too small. Arguments: bytes, given (as written), least (MiB), field, why. */}}
{{- define "common.leastMemory" -}}
{{- if lt (int64 .bytes) (mul .least 1048576) -}}
{{- fail (printf "%s: %s is too small for %s: use at least %dMi" .field .given .why (int64 .least)) -}}
{{- end -}}
{{- end -}}

{{/* A container's resources, where requests default to limits. */}}
{{- define "common.resources" -}}
{{- $limits := .limits | default dict -}}
{{- toYaml (dict "limits" $limits "requests" (merge (deepCopy (.requests | default dict)) $limits)) -}}
{{- end -}}
