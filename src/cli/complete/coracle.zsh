#compdef coracle
# zsh completion of coracle. An alias is completed as what it stands for.
_coracle() {
    local -a words_here plain
    local candidate files=
    words_here=("${(@)words[2,CURRENT]}")
    while IFS=$'\t' read -r candidate about; do
        if [[ $candidate == :files ]]; then
            files=1
        elif [[ -n $about ]]; then
            plain+=("${candidate//:/\\:}:$about")
        else
            plain+=("${candidate//:/\\:}")
        fi
    done < <(command coracle __complete words "${(@)words_here}" 2>/dev/null)
    (( ${#plain} )) && _describe -V coracle plain
    [[ -n $files ]] && _files
    return 0
}
if [[ ${funcstack[1]:-} == _coracle ]]; then
    _coracle "$@"
else
    compdef _coracle coracle
fi
