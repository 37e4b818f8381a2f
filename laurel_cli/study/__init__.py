"""Studies as a whole: on disk, what is declared, from what is asked to a plan and a verdict, running trials."""
