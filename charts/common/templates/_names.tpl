{{/*
The cluster's name, from which every object's name is made: the release name.
It begins Service names (a letter first) and StatefulSet names (52 characters at most, "-broker" included).
*/}}
{{- define "common.name" -}}
{{- $name := .Release.Name -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "release name %q: use lower-case letters, digits and '-', beginning with a letter" $name) -}}
{{- end -}}
{{- if gt (len $name) 45 -}}
{{- fail (printf "release name %q has %d characters: use 45 at most" $name (len $name)) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* The cluster's name, which every label and address is made from: the release's own, or that of the one it is a group of. */}}
{{- define "common.cluster" -}}
{{- $name := include "common.name" . -}}
{{- if eq .Values.cluster $name -}}
{{- fail (printf "cluster %q: a group needs another release name than its cluster" $name) -}}
{{- end -}}
{{- .Values.cluster | default $name -}}
{{- end -}}

{{/*
Labels that select the pods of one component. Arguments: root, component.
A group's component is called otherwise, because the selectors of its cluster's own workers can't change any more.
*/}}
{{- define "common.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ include "common.cluster" .root | quote }}
app.kubernetes.io/component: {{ ternary "group-" "" (ne .root.Values.cluster "") }}{{ .component }}
{{- if .root.Values.cluster }}
trireme.dev/group: {{ include "common.name" .root | quote }}
{{- end }}
{{- end -}}

{{/* Labels of every object. Arguments: root, component (left out for what belongs to the whole cluster). */}}
{{- define "common.labels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ include "common.cluster" .root | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ ternary "group-" "" (ne $.root.Values.cluster "") }}{{ . }}
{{- end }}
{{- if .root.Values.cluster }}
trireme.dev/group: {{ include "common.name" .root | quote }}
{{- end }}
app.kubernetes.io/part-of: trireme
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}
