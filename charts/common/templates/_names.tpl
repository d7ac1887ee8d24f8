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

{{/* Labels that select the pods of one component. Arguments: root, component. */}}
{{- define "common.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ include "common.name" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of every object. Arguments: root, component (left out for what belongs to the whole cluster). */}}
{{- define "common.labels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ include "common.name" .root }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/part-of: trireme
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}
