"""exposure-scan: what an Allworx phone system shows to the Internet, judged against the vendor's bulletin."""

__version__ = "0.1.0"
