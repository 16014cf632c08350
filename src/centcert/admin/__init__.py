"""What the commands call: settings and, later, publish, inventory, explain."""
