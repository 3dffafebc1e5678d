"""What deploys: bundles, deploys and questions to the server's API, for the CLI and for programs."""
