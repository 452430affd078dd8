{{- define "pingress.selector" -}}
app.kubernetes.io/name: pingress
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pingress.labels" -}}
{{ include "pingress.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "pingress.settings" -}}
gateway:
  ports:
    {{- range .Values.ports }}
    {{ int .declared }}: {{ int .bound }}
    {{- end }}
  {{- $gateway := dict "namespace" .Release.Namespace "workload" .Release.Name }}
  {{- toYaml (mergeOverwrite $gateway (.Values.settings.gateway | default dict)) | nindent 2 }}
{{- with omit .Values.settings "gateway" }}
{{ toYaml . }}
{{- end }}
{{- end }}
