{{- define "egresslens.fullname" -}}
{{- if contains "egresslens" .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}{{ printf "%s-egresslens" .Release.Name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* What selects a component's pods, for ever: dict "root" . "component" "worker" */}}
{{- define "egresslens.selector" -}}
app.kubernetes.io/name: egresslens
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "egresslens.labels" -}}
{{ include "egresslens.selector" . }}
app.kubernetes.io/part-of: egresslens
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "egresslens.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "egresslens.fullname" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "egresslens.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* A setting as the environment holds it: lists are JSON, numbers as they were written. */}}
{{- define "egresslens.setting" -}}
{{- if kindIs "slice" . }}{{ . | toJson }}
{{- else if kindIs "float64" . }}{{ if eq . (floor .) }}{{ . | int64 }}{{ else }}{{ . }}{{ end }}
{{- else }}{{ . }}{{ end }}
{{- end }}

{{/*
A pod that runs one command: dict "root" . "component" "worker" "args" (list …) "secret" "writer"
  "resources" {…} "port" 6066 "env" (dict …) "grace" 30 "ready" "/readyz" "restart" "Always" "account" "…"
*/}}
{{- define "egresslens.pod" -}}
metadata:
  labels:
    {{- include "egresslens.labels" . | nindent 4 }}
    {{- with .root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .root.Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .account }}
  serviceAccountName: {{ . }}
  {{- end }}
  # Nothing here talks to Kubernetes.
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .restart }}
  restartPolicy: {{ . }}
  {{- end }}
  {{- with .grace }}
  terminationGracePeriodSeconds: {{ . }}
  {{- end }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: {{ .component }}
      image: {{ include "egresslens.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args:
        {{- toYaml .args | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      env:
        {{- range $name, $value := .root.Values.settings }}
        - name: EGRESSLENS_{{ $name | upper }}
          value: {{ include "egresslens.setting" $value | quote }}
        {{- end }}
        - name: EGRESSLENS_CONFIG_FILE
          value: /run/secrets/egresslens/egresslens.toml
        - name: POLARS_MAX_THREADS
          value: "1"
        {{- range $name, $value := .env }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
      {{- with .port }}
      ports:
        - name: http
          containerPort: {{ . }}
          protocol: TCP
      # The first answer may take a while: Kafka's group, and what the store still holds.
      startupProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 36
      livenessProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: {{ $.ready }}, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      {{- end }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      volumeMounts:
        - {name: settings, mountPath: /run/secrets/egresslens, readOnly: true}
        - {name: data, mountPath: /var/lib/egresslens}
        - {name: tmp, mountPath: /tmp}
        {{- if eq .component "console" }}
        - {name: passwords, mountPath: /run/secrets/console, readOnly: true}
        {{- end }}
        {{- range .root.Values.files }}
        - {name: file-{{ .name }}, mountPath: {{ .path }}, readOnly: true}
        {{- end }}
  volumes:
    - name: settings
      secret:
        secretName: {{ get .root.Values.secrets .secret }}
        defaultMode: 0440
        items: [{key: egresslens.toml, path: egresslens.toml}]
    {{- if eq .component "console" }}
    - name: passwords
      secret:
        secretName: {{ .root.Values.secrets.console }}
        defaultMode: 0440
        items: [{key: passwords, path: passwords}]
    {{- end }}
    - name: data
      emptyDir: {sizeLimit: 256Mi}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- range .root.Values.files }}
    - name: file-{{ .name }}
      {{- if .secret }}
      secret: {secretName: {{ .secret }}, defaultMode: 0440}
      {{- else }}
      configMap: {name: {{ .configMap }}}
      {{- end }}
    {{- end }}
  {{- if gt (int (.replicas | default 1)) 1 }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "egresslens.selector" . | nindent 10 }}
  {{- end }}
  {{- with .root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
{{- end }}

{{/* The topics as a JSON list: the setting may be one name. */}}
{{- define "egresslens.topics" -}}
{{- $topics := .Values.settings.access_log_topics | default "egress.access-log" }}
{{- kindIs "string" $topics | ternary (list $topics) $topics | toJson }}
{{- end }}
