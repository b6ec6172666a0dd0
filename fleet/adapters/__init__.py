"""One file or folder per library of models; none knows another, and none imports its library before it is needed."""
