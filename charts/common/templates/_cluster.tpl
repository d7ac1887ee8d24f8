{{/* The ConfigMap with every file of the chart's files/ folder: start, drain and probe scripts. */}}
{{- define "common.scripts" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "common.name" . }}-scripts
  labels:
    {{- include "common.labels" (dict "root" .) | nindent 4 }}
data:
  {{- (.Files.Glob "files/*").AsConfig | nindent 2 }}
{{- end -}}

{{/*
Traffic: only the cluster's own pods, its drivers among them, reach its pods. The engines take code from whoever can
connect, and only some of them know passwords. Policies add up, so whoever else may connect gets one of their own.
The operator reads from the control pod how much work there is. Takes root; `demand`, the port for that; and `metrics`,
the ports with metrics, which Prometheus may read if the values say from where.
*/}}
{{- define "common.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "common.name" .root | quote }}
  labels:
    {{- include "common.labels" (dict "root" .root) | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/instance: {{ include "common.name" .root | quote }}
      app.kubernetes.io/part-of: trireme
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector:
            matchLabels:
              app.kubernetes.io/instance: {{ include "common.name" .root | quote }}
              app.kubernetes.io/part-of: trireme
    - from:
        - namespaceSelector: {}
          podSelector:
            matchLabels:
              app.kubernetes.io/name: trireme
              app.kubernetes.io/component: operator
      ports:
        - port: {{ .demand }}
    {{- include "common.metricsRule" (dict "root" .root "ports" .metrics) | nindent 4 }}
{{- end -}}

{{/* The rule that lets Prometheus read metrics, if anybody may. Arguments: root, ports (names, or maps as in a NetworkPolicy). */}}
{{- define "common.metricsRule" -}}
{{- with .root.Values.metrics.from }}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    {{- range $.ports }}
    - {{ kindIs "map" . | ternary . (dict "port" .) | toJson }}
    {{- end }}
{{- end }}
{{- end -}}

{{/* Evictions a few workers at a time, so that those which stay can take over what the leaving ones hold. */}}
{{- define "common.workerDisruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "common.name" . }}-worker
  labels:
    {{- include "common.labels" (dict "root" . "component" "worker") | nindent 4 }}
spec:
  maxUnavailable: 25%
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "common.selectorLabels" (dict "root" . "component" "worker") | nindent 6 }}
{{- end -}}

{{/* Name of the Secret with the cluster's password, in its key `password`: the user's, or the one that is made. */}}
{{- define "common.authSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-auth" (include "common.cluster" .)) -}}
{{- end -}}

{{/* The one that is made. */}}
{{- define "common.auth" -}}
{{- $name := include "common.authSecret" . }}
{{- $old := lookup "v1" "Secret" .Release.Namespace $name }}
apiVersion: v1
kind: Secret
metadata:
  name: {{ $name }}
  labels:
    {{- include "common.labels" (dict "root" .) | nindent 4 }}
data:
  # Kept across upgrades. Letters and digits, because it becomes part of a URL.
  password: {{ if $old }}{{ $old.data.password }}{{ else }}{{ randAlphaNum 32 | b64enc }}{{ end }}
{{- end -}}

{{/* A StatefulSet's volume claim. Arguments: root, component, name (of the volume), persistence. */}}
{{- define "common.claim" -}}
persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Retain}
volumeClaimTemplates:
  - metadata:
      name: {{ .name }}
      labels:
        {{- include "common.labels" . | nindent 8 }}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .persistence.storageClass }}
      storageClassName: {{ quote . }}
      {{- end }}
      resources:
        requests: {storage: {{ .persistence.size }}}
{{- end -}}
