"""Dashboards, recording rules and alerts, as data: written into the chart, tried against a real Prometheus, drawn."""
