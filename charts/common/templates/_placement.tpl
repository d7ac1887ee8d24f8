{{/*
Where workers may run, as a map for common.podSpec: the user's own fields, or what the value `placement` stands for.
Required holds for affinity and spread alike; but a spread counts all nodes of node affinity as places, also those that
a pod affinity forbids, so beside podLabels it is never more than a preference. Arguments: root, component.
*/}}
{{- define "common.placement" -}}
{{- $values := .root.Values -}}
{{- $wanted := $values.placement | default dict -}}
{{- $required := eq ($wanted.mode | default "Preferred") "Required" -}}
{{- $found := pick $values "affinity" "nodeSelector" "priorityClassName" "tolerations" "topologySpreadConstraints" -}}
{{- if or $wanted.nodeLabels $wanted.podLabels -}}
{{- if $values.affinity -}}
{{- fail "placement: nodeLabels and podLabels make an affinity, and affinity is set, too: leave one of them out" -}}
{{- end -}}
{{- $affinity := dict -}}
{{- with $wanted.nodeLabels -}}
{{- $expressions := list -}}
{{- range $key, $value := . -}}
{{- $expressions = append $expressions (dict "key" $key "operator" "In" "values" (list $value)) -}}
{{- end -}}
{{- $term := dict "matchExpressions" $expressions -}}
{{- if $required -}}
{{- $_ := set $affinity "nodeAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" (list $term))) -}}
{{- else -}}
{{- $_ := set $affinity "nodeAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "preference" $term))) -}}
{{- end -}}
{{- end -}}
{{- with $wanted.podLabels -}}
{{- $term := dict "labelSelector" (dict "matchLabels" .) "topologyKey" "kubernetes.io/hostname" -}}
{{- if $required -}}
{{- $_ := set $affinity "podAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term)) -}}
{{- else -}}
{{- $_ := set $affinity "podAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term))) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $found "affinity" $affinity -}}
{{- end -}}
{{- with $wanted.spread -}}
{{- if $values.topologySpreadConstraints -}}
{{- fail "placement: spread makes a topologySpreadConstraint, and topologySpreadConstraints is set, too: leave one of them out" -}}
{{- end -}}
{{- $constraint := dict
    "maxSkew" 1
    "topologyKey" (eq . "Zones" | ternary "topology.kubernetes.io/zone" "kubernetes.io/hostname")
    "whenUnsatisfiable" (ternary "DoNotSchedule" "ScheduleAnyway" (and $required (empty $wanted.podLabels)))
    "nodeTaintsPolicy" "Honor"
    "labelSelector" (dict "matchLabels" (include "common.selectorLabels" $ | fromYaml))
    "matchLabelKeys" (list "pod-template-hash") -}}
{{- $_ := set $found "topologySpreadConstraints" (list $constraint) -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}
