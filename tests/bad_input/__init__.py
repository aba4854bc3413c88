"""Bad input against a real server over real sockets: each case has its defined answer, and afterwards all is well."""
