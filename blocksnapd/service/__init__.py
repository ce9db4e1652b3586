"""What the daemon does with the verbs: protect volumes, do runs, answer the operator."""
