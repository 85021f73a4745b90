"""What a study is to run: suites, experiments, schedules, requests. No model is loaded here."""
