{{/*
What every pod's spec begins with: no API token, nobody's root, a bounded end, and where the pod may run.
Arguments: root, graceSeconds, placement (a map with nodeSelector, affinity, tolerations and so on).
*/}}
{{- define "common.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ int .graceSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $key := list "affinity" "nodeSelector" "priorityClassName" "tolerations" "topologySpreadConstraints" }}
{{- with get $.placement $key }}
{{ $key }}: {{- if kindIs "string" . }} {{ quote . }}{{ else }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A container's security context under Pod Security "restricted". */}}
{{- define "common.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end -}}

{{/*
Labels and annotations of a pod template. A changed configuration changes the checksum, so it rolls the pods.
Arguments: root, component, files (templates whose text counts, without ".yaml").
*/}}
{{- define "common.podMetadata" -}}
labels:
  {{- $labels := include "common.labels" . | fromYaml }}
  {{- toYaml (merge $labels (.root.Values.podLabels | default dict)) | nindent 2 }}
annotations:
  {{- $sums := dict }}
  {{- range .files }}
  {{- $_ := set $sums (printf "checksum/%s" .) (include (printf "%s/%s.yaml" $.root.Template.BasePath .) $.root | sha256sum) }}
  {{- end }}
  {{- toYaml (merge $sums (.root.Values.podAnnotations | default dict)) | nindent 2 }}
{{- end -}}

{{/*
One env list from the chart's and the user's, each name once, because a name twice is refused by server-side apply.
The user's entry takes the place of the chart's. Arguments: chart (list), user (list).
*/}}
{{- define "common.env" -}}
{{- $user := dict -}}
{{- range .user -}}{{- $_ := set $user .name . -}}{{- end -}}
{{- $env := list -}}
{{- $seen := dict -}}
{{- range concat .chart (.user | default list) -}}
{{- if not (hasKey $seen .name) -}}
{{- $_ := set $seen .name true -}}
{{- $env = append $env (get $user .name | default .) -}}
{{- end -}}
{{- end -}}
{{- toYaml $env -}}
{{- end -}}

{{/* Environment in every worker: who and where it is, how long it may drain, and its group if it is not the cluster's own. */}}
{{- define "common.workerEnv" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: HOME
  value: /tmp
- name: PYTHONPATH
  value: /opt/trireme/code
- name: TRIREME_DRAIN_SECONDS
  value: {{ .Values.drainSeconds | int | quote }}
{{- if .Values.cluster }}
- name: TRIREME_GROUP
  value: {{ include "common.name" . | quote }}
{{- end }}
{{- end -}}

{{/* A worker's volume mounts: scratch space, the chart's scripts, the user's code, and what else the user asks for. */}}
{{- define "common.workerMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: scripts, mountPath: /opt/trireme/scripts, readOnly: true}
{{- if .Values.code.configMap }}
- {name: code, mountPath: /opt/trireme/code, readOnly: true}
{{- end }}
{{- with .Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "common.workerVolumes" -}}
- name: tmp
  emptyDir: {}
- name: scripts
  configMap: {name: {{ include "common.name" . }}-scripts}
{{- with .Values.code.configMap }}
- name: code
  configMap: {name: {{ quote . }}}
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
A startup probe every second, so that a pod is ready as soon as it works, then a calm readiness probe.
Arguments: probe (the handler, as a map), startSeconds (how long the start may take); then (the handler once it has
started, where another one is cheaper or tells more), readySeconds (how often that is asked: 10 if left out), waitSeconds
(for a probe that itself waits for the start: how long it is left to).
*/}}
{{- define "common.startAndReady" -}}
startupProbe:
  {{- toYaml .probe | nindent 2 }}
  periodSeconds: 1
  timeoutSeconds: {{ .waitSeconds | default 5 }}
  failureThreshold: {{ div .startSeconds (.waitSeconds | default 1) }}
readinessProbe:
  {{- .then | default .probe | toYaml | nindent 2 }}
  periodSeconds: {{ .readySeconds | default 10 }}
  timeoutSeconds: 5
{{- end -}}
