"""One module per subcommand: flags to a config to run(). No logic lives here."""
