"""A farm in a nutshell: what ``centcert demo`` shows, made on the spot and thrown away after."""
