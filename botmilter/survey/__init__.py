"""The study of 2009 as one command: mailboxes in, measured hosts and tables out."""
