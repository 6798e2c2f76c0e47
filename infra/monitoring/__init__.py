"""What watches an installation from outside: a scrape configuration, alert rules with their tests, a Grafana dashboard and its source."""
