"""The names of the default formats: the values of the field `format`, beside `custom_1` and so on."""

from __future__ import annotations

from typing import Final

FORMATS: Final[dict[str, str]] = {
    "istio_text_1.9": "Istio's text format from 1.9 on",
    "istio_text_1.8": "Istio's text format of 1.8",
    "istio_text_1.3": "Istio's text format of 1.3 to 1.7",
    "istio_text_1.2": "Istio's text format of 1.2",
    "istio_text_1.1": "Istio's text format of 1.1",
    "istio_text_1.0": "Istio's text format of 1.0 for HTTP",
    "istio_text_1.0_tcp": "Istio's text format of 1.0 for TCP",
    "envoy_text": "Envoy's default text format (Ambassador's too)",
    "envoy_text_details": "Envoy's default text format with %RESPONSE_CODE_DETAILS%",
    "istio_json": "JSON with Istio's keys, encoded by Envoy or written as text",
    "envoy_gateway_json": "JSON with Envoy Gateway's keys (`:authority`, `x-envoy-origin-path`)",
    "envoy_json": "JSON with other keys for the same fields",
    "ztunnel_text": "ztunnel's key=value text",
    "ztunnel_json": "ztunnel's JSON",
}
